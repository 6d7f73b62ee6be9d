"""Checkpoints of gmongaras/Diffusion_models_from_scratch, read and written.

There a checkpoint is a state dict (.pkl), its hyper-parameters (.json) and perhaps the state of the
optimizer (.pkl).
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
