"""Image paths become features, in order: the pipeline, and the cache of what was computed once."""
