"""One file per backbone. Must not know masks, data or training."""
