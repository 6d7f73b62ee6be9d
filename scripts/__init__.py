"""Command-line programs: they parse flags, call one function, and set the exit code."""
