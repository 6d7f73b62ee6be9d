"""Importer and exporter of gmongaras/Diffusion_models_from_scratch, "the original".

A checkpoint consists of a state dict (.pkl), hyperparameters (.json) and, optionally, the
optimizer state (.pkl).
"""

from diffusion_jax.importers.original.checkpoint import Checkpoint, read_checkpoint
from diffusion_jax.importers.original.export import check_exportable, write_checkpoint
from diffusion_jax.importers.original.optimizer import read_optimizer
from diffusion_jax.importers.original.statistics import read_statistics

__all__ = [
    "Checkpoint",
    "check_exportable",
    "read_checkpoint",
    "read_optimizer",
    "read_statistics",
    "write_checkpoint",
]
