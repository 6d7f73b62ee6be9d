"""The config that a run was last started with. `scripts.train` takes it where --config is missing.

python -m scripts.train --workdir runs/imported --config.steps=700000
"""

from pathlib import Path

from ml_collections import ConfigDict

from diffusion_jax.workdir import run_folder


def get_config(workdir: str) -> ConfigDict:
    return run_folder.load(Path(workdir))
