"""Writes results: files that are replaced whole or appended to, renderers to bytes, and report pages."""
