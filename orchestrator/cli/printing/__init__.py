"""What is shown: tables on standard output. Must not know how anything is run."""
