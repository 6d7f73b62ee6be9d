"""What a workdir holds, as one page of HTML: `gather` reads, `page` and `comparison` write.

A comparison can have what `equal_seeds.draw` draws, too.
"""

from diffusion_jax.report.comparison import comparison
from diffusion_jax.report.gather import RunReport, gather
from diffusion_jax.report.page import page

__all__ = ["RunReport", "comparison", "gather", "page"]
