"""Eight virtual devices, JAX's strictest rules about types and shapes, one compilation cache."""

import gc
import os
import tempfile
from pathlib import Path

import quick

# Before JAX is imported. With fewer threads than virtual devices a collective may wait for ever.
os.environ.setdefault("NPROC", "16")
os.environ["JAX_PLATFORMS"] = "cpu"
# Many tests start the same program; it is compiled once. The workers of pytest-xdist inherit the
# folder of the process that starts them, which deletes it at the end.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _CACHE = tempfile.TemporaryDirectory()
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
os.environ["XLA_FLAGS"] = " ".join(
    [
        quick.flags(8),
        "--xla_cpu_collective_call_warn_stuck_timeout_seconds=30",
        "--xla_cpu_collective_call_terminate_timeout_seconds=120",
    ]
)

import jax
import pytest

# Programs that were traced stay, millions of objects, through which Python would look for cycles.
gc.set_threshold(100_000, 50, 50)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="module", autouse=True)
def few_memory_maps():
    """Forgets compiled programs in time: Linux ends a process that has 65,530 maps of memory."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > 20_000:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="module")
def ordinary_promotion():
    """For tests that train: Optax promotes types implicitly."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def golden() -> Path:
    """The folder of golden data."""
    return Path(__file__).parent / "golden"
