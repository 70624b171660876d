"""Adapts a classifier to its images: weights refined by labelled examples, shares of labels, neighbours' answers."""
