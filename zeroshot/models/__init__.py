"""Resolve a model's name to its configuration, its preprocessing and its local files."""
