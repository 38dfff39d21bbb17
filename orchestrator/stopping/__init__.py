"""When a trial of a cell ends before its last epoch: pure decisions on curves.

Knows neither Ray nor how trials are run.
"""
