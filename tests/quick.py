"""Compiler flags for the tests, where compiling takes longer than running."""

from importlib.metadata import version

# Little optimization, and none of the slowest kernel emitters. Only JAX 0.10 has a flag for the
# latter; other versions stop at an unknown flag.
COMPILER = "--xla_backend_optimization_level=0"
if version("jaxlib").startswith("0.10."):
    COMPILER += " --xla_cpu_use_fusion_emitters=false"


def flags(devices: int) -> str:
    """Returns XLA_FLAGS for a number of virtual devices."""
    return f"--xla_force_host_platform_device_count={devices} {COMPILER}"
