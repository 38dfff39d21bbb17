"""Parameters and MACs by arithmetic, without torch; what a backbone adds stands in its card."""
