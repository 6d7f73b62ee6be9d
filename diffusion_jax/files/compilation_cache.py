"""JAX's compilation cache on disk, so that a program is compiled once, not in each process."""

import os
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache


def enable() -> None:
    """Keeps compiled programs in ~/.cache/diffusion_jax, unless a cache is configured already.

    The place follows XDG_CACHE_HOME. JAX_COMPILATION_CACHE_DIR, or the option of JAX of that name,
    takes precedence; JAX_ENABLE_COMPILATION_CACHE=0 switches the cache off.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(base / "diffusion_jax" / "compiled"))
        # JAX has decided against a cache if it has compiled anything before.
        compilation_cache.reset_cache()
