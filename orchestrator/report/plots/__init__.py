"""Single figures of a sweep for a paper: values first, drawn at the end. Loads neither torch nor
Ray, and matplotlib only to draw.
"""
