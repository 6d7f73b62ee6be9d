"""Importers and exporters for the checkpoints of other programs."""
