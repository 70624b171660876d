"""Sort pictures by words: zero-shot image classification with CLIP models."""
