"""The form that ships and how it runs. Must not know training or sweeps."""
