"""Reports of runs as self-contained HTML pages.

`read_run` reads a workdir; `run_page` shows one run and `comparison_page` several side by side.
"""

from diffusion_jax.report.comparison_page import comparison_page
from diffusion_jax.report.environment import here
from diffusion_jax.report.equal_seed_samples import sample_equal_seeds
from diffusion_jax.report.run_page import run_page
from diffusion_jax.report.run_report import RunReport, read_run

__all__ = [
    "RunReport",
    "comparison_page",
    "here",
    "read_run",
    "run_page",
    "sample_equal_seeds",
]
