"""How often a classifier is right, how sure that is, and what to make of it: a temperature, templates."""
