"""What a person asks of a data set: damage, copies, counts, pictures."""
