"""Paths to files, files to upright RGB, RGB to a model's rectangle."""
