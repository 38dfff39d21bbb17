"""How deploy forms run on their kept weights alone, on CPUs. Must not know training or sweeps."""
