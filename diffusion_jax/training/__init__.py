"""Training: step, state, loop, checkpoints and logging."""
