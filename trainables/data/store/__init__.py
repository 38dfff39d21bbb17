"""What is on disk: one imported data set, memory-mapped. Must not know torch."""
