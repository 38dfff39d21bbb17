"""One file per format of recordings: a folder in, checked clips out."""
