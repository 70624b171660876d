"""Sorting images into folders, so that it can be taken back: plan, journal, step."""
