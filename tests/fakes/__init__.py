"""Servers that only pretend, each proven honest by tests that run on the real one too."""
