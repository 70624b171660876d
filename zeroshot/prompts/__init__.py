"""Labels, template sets, and what a model would read otherwise than it is written."""
