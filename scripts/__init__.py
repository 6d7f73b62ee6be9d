"""Command-line programs: they parse flags, call one function, and set the exit code."""

import gc

# Imports and traced programs are millions of objects that stay. To look through them for cycles as
# often as Python does took a quarter of the time to trace a training step.
gc.set_threshold(100_000, 50, 50)
