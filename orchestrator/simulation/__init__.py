"""Sweeps without training: recorded learning curves and a virtual clock under the real searches and
the real stopping rules.

Knows neither Ray nor how trials are run.
"""
