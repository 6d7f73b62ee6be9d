"""How the tests have programs compiled: compiling takes longer than running them."""

from importlib.metadata import version

# The compiler is told not to try hard, and to leave out its slowest way of making kernels,
# which JAX 0.10 alone can leave out: later versions stop at a flag that they do not know.
COMPILER = "--xla_backend_optimization_level=0"
if version("jaxlib").startswith("0.10."):
    COMPILER += " --xla_cpu_use_fusion_emitters=false"


def flags(devices: int) -> str:
    """XLA_FLAGS for so many virtual devices."""
    return f"--xla_force_host_platform_device_count={devices} {COMPILER}"
