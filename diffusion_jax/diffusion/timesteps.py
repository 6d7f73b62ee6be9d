"""How the step t of each training example is drawn."""

import jax

from diffusion_jax.diffusion.types import Keys, Steps


def uniform(keys: Keys, num_steps: int) -> Steps:
    """t uniform on 1 .. num_steps, one for each key. DDPM (arXiv:2006.11239), algorithm 1."""
    return jax.vmap(lambda key: jax.random.randint(key, (), 1, num_steps + 1))(keys)
