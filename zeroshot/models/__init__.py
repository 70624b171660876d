"""A model's name becomes its configuration, its preprocessing and its files on this disk."""
