"""What crosses the line between a sweep and a trial: configuration, cards, scores, files, errors,
and the one door for files of other origins. Imports nothing of ours and nothing heavy.
"""
