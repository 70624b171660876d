"""Features that were computed once, and where they are kept."""
