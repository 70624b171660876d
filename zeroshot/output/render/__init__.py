"""What was found, as bytes for people and programs: a file for each kind of result."""
