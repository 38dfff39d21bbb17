"""What the report says, one file per part; each gives Markdown from values and reads no file."""
