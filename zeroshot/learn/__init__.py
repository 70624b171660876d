"""Refine a text classifier's weights by labelled examples: arithmetic on features, without a network."""
