"""Evaluation of generated images: features, their statistics, and metrics."""
