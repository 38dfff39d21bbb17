"""What can be known before a trial runs: checks, sizes, time, disk. Starts nothing."""
