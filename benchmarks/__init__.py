"""Measurements: speed of a training step and of sampling, quality on the digits."""
