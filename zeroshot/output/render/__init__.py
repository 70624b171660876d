"""Renders results as bytes (tables, JSON lines, CSV, Parquet): one module per kind of result."""
