"""Labels, template sets, and checks of what a model would read differently from how it is written."""
