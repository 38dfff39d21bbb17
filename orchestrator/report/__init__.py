"""What a sweep found, for people: Markdown, tables and figures, made from the files of the sweep
alone.
"""
