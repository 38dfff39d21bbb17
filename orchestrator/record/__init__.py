"""A sweep's folder as people and processes read it. Must not know how trials are run."""
