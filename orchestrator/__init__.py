"""Sweeps: from one YAML file to trials, ensembles and final scores."""

__version__ = "0.12.0"
