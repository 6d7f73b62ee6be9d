"""The config that a run was last started with. `scripts.train` uses it without --config.

python -m scripts.train --workdir runs/imported --config.steps=700000
"""

from pathlib import Path

from ml_collections import ConfigDict

from diffusion_jax.workdir.run_files import load_config


def get_config(workdir: str) -> ConfigDict:
    return load_config(Path(workdir))
