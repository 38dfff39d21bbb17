"""Sweep files people start from; `orchestrate sweep quickstart` finds them here by name."""
