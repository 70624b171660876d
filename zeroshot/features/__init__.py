"""Turns image paths into features, in order: the pipeline, and the cache of features of images and labels."""
