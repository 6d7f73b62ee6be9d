"""The mathematics of diffusion: each function is one equation."""
