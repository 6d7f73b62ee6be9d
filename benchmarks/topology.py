"""Devices that are not here but can be compiled for: their data sheets, their compilers."""

import importlib.util
import sys
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import jax
from jax.experimental import topologies

from benchmarks.roofline import Rates

ROOT = Path(__file__).resolve().parent.parent
SHEETS = ROOT / "benchmarks" / "devices"
# Where the compilers are looked for besides the environment; no other program looks there.
COMPILERS = Path("build") / "compilers"
# By platform: the packages, what they are pinned to, and the module that tells that they are there.
PACKAGES = {
    "cuda": (("jax-cuda13-plugin=={jax}", "jax-cuda13-pjrt=={jax}"), "jax_plugins.xla_cuda13"),
}


@dataclass(frozen=True)
class Device:
    """A kind of device. memory: bytes. rates: "peak", of the data sheet; "realistic", of kernels.

    platform, topology, compiler: what XLA needs to compile for it.
    """

    name: str
    memory: float
    rates: dict[str, Rates]
    platform: str
    topology: str
    compiler: dict[str, str]

    def to_compile_for(self, count: int = 1) -> list[jax.Device]:
        """So many devices of a machine, for `parallel`; they have no memory and run nothing.

        Raises ValueError, which says what to install, if its compiler is not there.
        """
        jax.config.update("jax_platforms", "cpu")
        sys.path.append(str(ROOT / COMPILERS))
        _check_compiler(self.platform)
        topology = self.topology.format(devices=count)
        options = {"topology": topology, "target_config": self.compiler["target"]}
        return topologies.get_topology_desc(self.name, self.platform, **options).devices


def device(name: str) -> Device:
    """The device of a file in benchmarks/devices/."""
    sheet = tomllib.loads((SHEETS / f"{name}.toml").read_text())
    rates = {kind: Rates(**sheet.pop(kind)) for kind in ("peak", "realistic")}
    return Device(rates=rates, **sheet)


def names() -> list[str]:
    """Of the devices that are described."""
    return sorted(path.stem for path in SHEETS.glob("*.toml"))


def has_compiler(platform: str) -> bool:
    """Whether the platform's compiler is there, of the version of JAX."""
    packages, module = PACKAGES[platform]
    parent = module.partition(".")[0]
    if importlib.util.find_spec(parent) is None or importlib.util.find_spec(module) is None:
        return False
    wanted = [text.format(jax=jax.__version__).split("==") for text in packages]
    return all(metadata.version(name) == pin for name, *pins in wanted for pin in pins)


def _check_compiler(platform: str) -> None:
    if not has_compiler(platform):
        packages = " ".join(text.format(jax=jax.__version__) for text in PACKAGES[platform][0])
        raise ValueError(
            f"XLA's compiler for {platform} is not here, or not of JAX {jax.__version__}; type: "
            f"pip install --upgrade --no-deps --target {COMPILERS} {packages}"
        )
