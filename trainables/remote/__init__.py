"""What lies at an address of another machine: opened, copied, kept. Knows no sweeps."""
