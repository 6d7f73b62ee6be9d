"""What a workdir holds, as one page of HTML: `gather` reads, `page` and `comparison` write.

A comparison can have what `equal_seeds.draw` draws, too.
"""

from diffusion_jax.runs.report.comparison import comparison
from diffusion_jax.runs.report.gather import RunReport, gather
from diffusion_jax.runs.report.page import page

__all__ = ["RunReport", "comparison", "gather", "page"]
