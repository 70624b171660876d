"""Labelled pictures: folders and tables of one's own, and the public ones."""
