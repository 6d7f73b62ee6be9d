"""Table of the programs whose models are imported from one file with a config."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from diffusion_jax.importers import adm, edm, edm2, mydiffusion, oasis
from diffusion_jax.importers.imported_model import ImportedModel


@dataclass(frozen=True)
class Program:
    """Program with a checkpoint format.

    Args:
        read: (file, config) -> model. Settings of the file replace those of the config.
        name: for the record of the run.
    """

    read: Callable[[Path, ConfigDict], ImportedModel]
    name: str


# Values of `scripts.convert --from`, in addition to original and safetensors. Each has a config in
# `CONFIGS` of that script.
PROGRAMS: dict[str, Program] = {
    "openai": Program(adm.read_openai, "openai/guided-diffusion or openai/improved-diffusion"),
    "nice-diffusion": Program(adm.read_nice_diffusion, "edogariu/nice-diffusion"),
    "edm": Program(edm.read, "NVlabs/edm"),
    "edm2": Program(edm2.read, "NVlabs/edm2"),
    "mydiffusion": Program(mydiffusion.read, "Lionelding/MyDiffusionModel"),
    "oasis": Program(oasis.read, "s4583222_Solution in shakes76/PatternFlow"),
}
