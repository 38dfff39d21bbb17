"""How sure the figures are: intervals, the luck of choosing, calibration, diversity.

Pure functions on arrays; knows neither files nor sweeps.
"""
