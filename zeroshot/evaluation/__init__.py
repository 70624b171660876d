"""How often a classifier is right on labelled datasets, how sure that is, and what to make of it."""
