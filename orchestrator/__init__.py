"""Sweeps: from one YAML file to trials, ensembles and final scores."""
