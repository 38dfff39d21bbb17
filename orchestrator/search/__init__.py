"""What proposes the trials of one cell.

Knows neither Ray nor how trials are run.
"""
