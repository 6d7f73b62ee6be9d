"""Runs: training, sampling, editing and evaluating in a workdir."""
