"""The config that a run was last started with. `scripts.train` takes it where --config is missing.

python -m scripts.train --workdir runs/imported --config.steps=700000
"""

from pathlib import Path

from ml_collections import ConfigDict

from diffusion_jax.runs import configuration


def get_config(workdir: str) -> ConfigDict:
    return configuration.load(Path(workdir))
