"""Images: finding files, decoding them to upright RGB, preprocessing to a model's size."""
