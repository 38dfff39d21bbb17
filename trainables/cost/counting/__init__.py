"""Parameters and MACs by arithmetic: one file per backbone, no torch."""
