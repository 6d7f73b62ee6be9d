"""Devices to compile for without having them: data sheets and compilers."""

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
# Folder of the compilers besides the environment; used by this module alone.
COMPILERS = Path("build") / "compilers"
# By platform: the pinned packages, and a module that exists once they are installed.
PACKAGES = {
    "cuda": (("jax-cuda13-plugin=={jax}", "jax-cuda13-pjrt=={jax}"), "jax_plugins.xla_cuda13"),
}


@dataclass(frozen=True)
class Device:
    """A kind of device. memory: bytes. rates: "peak", of the data sheet; "realistic", of kernels.

    platform, topology, compiler: arguments of XLA's compiler.
    """

    name: str
    memory: float
    rates: dict[str, Rates]
    platform: str
    topology: str
    compiler: dict[str, str]

    def compile_only(self, count: int = 1) -> list[jax.Device]:
        """Returns `count` devices of one machine, for `parallel`, that only compile.

        Raises ValueError, with the packages to install, if the compiler is missing.
        """
        jax.config.update("jax_platforms", "cpu")
        sys.path.append(str(ROOT / COMPILERS))
        _check_compiler(self.platform)
        topology = self.topology.format(devices=count)
        options = {"topology": topology, "target_config": self.compiler["target"]}
        return topologies.get_topology_desc(self.name, self.platform, **options).devices


def device(name: str) -> Device:
    """Reads a device from its file in benchmarks/devices/."""
    sheet = tomllib.loads((SHEETS / f"{name}.toml").read_text())
    rates = {kind: Rates(**sheet.pop(kind)) for kind in ("peak", "realistic")}
    return Device(rates=rates, **sheet)


def names() -> list[str]:
    """Returns the names of the devices."""
    return sorted(path.stem for path in SHEETS.glob("*.toml"))


def has_compiler(platform: str) -> bool:
    """True if the platform's compiler is installed, of the same version as JAX."""
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
            f"XLA's compiler for {platform} is not installed for JAX {jax.__version__}; type: "
            f"pip install --upgrade --no-deps --target {COMPILERS} {packages}"
        )
