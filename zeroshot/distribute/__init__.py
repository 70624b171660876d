"""Runs larger than one machine: a plan in a folder, shards that are committed whole, and one file out of them."""
