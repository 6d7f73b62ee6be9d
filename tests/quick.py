"""How the tests have programs compiled: compiling takes longer than running them."""

# The compiler is told not to try hard, and to leave out its slowest way of making kernels.
COMPILER = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"


def flags(devices: int) -> str:
    """XLA_FLAGS for so many virtual devices."""
    return f"--xla_force_host_platform_device_count={devices} {COMPILER}"
