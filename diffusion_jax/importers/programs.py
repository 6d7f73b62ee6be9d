"""The programs whose models can be imported with one file and a config."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from diffusion_jax.importers import adm, edm, edm2, mydiffusion, oasis
from diffusion_jax.importers.imported import Imported


@dataclass(frozen=True)
class Program:
    """read: (file, config) -> Imported; the config may lack what the file tells.

    about: the program, for the record of the run.
    """

    read: Callable[[Path, ConfigDict], Imported]
    about: str


# What `scripts.convert --from` can be, besides the original and safetensors. Each has its config in
# `CONFIGS` of that script.
PROGRAMS: dict[str, Program] = {
    "openai": Program(adm.read_openai, "openai/guided-diffusion or openai/improved-diffusion"),
    "nice-diffusion": Program(adm.read_nice_diffusion, "edogariu/nice-diffusion"),
    "edm": Program(edm.read, "NVlabs/edm"),
    "edm2": Program(edm2.read, "NVlabs/edm2"),
    "mydiffusion": Program(mydiffusion.read, "Lionelding/MyDiffusionModel"),
    "oasis": Program(oasis.read, "s4583222_Solution in shakes76/PatternFlow"),
}
