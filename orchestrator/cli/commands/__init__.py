"""What is typed: a few lines per command, imports inside."""
