"""The command line: arguments are turned into calls of the library, and their results are printed."""
