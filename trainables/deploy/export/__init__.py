"""A trial or an ensemble as one file that runs without this package. Must not know sweeps."""
