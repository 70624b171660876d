"""Sorting images into folders, with undo: plan, journal, moves."""
