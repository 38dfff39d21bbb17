"""Convolutions over time by their kept weights alone, on CPUs. Must not know torch or networks."""
