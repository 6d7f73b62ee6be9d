"""AdamW, with optional warm-up, decay of the learning rate and clipping of the gradient."""

import optax


def learning_rate_schedule(
    learning_rate: float, warmup_steps: int, decay_steps: int
) -> optax.Schedule:
    """Linear from 0 over warmup_steps, then constant, or a cosine that is 0 at decay_steps.

    warmup_steps = 0 starts at once; decay_steps = 0 stays constant.
    """
    if not decay_steps and not warmup_steps:
        return optax.constant_schedule(learning_rate)
    if not decay_steps:
        return optax.linear_schedule(0.0, learning_rate, warmup_steps)
    return optax.warmup_cosine_decay_schedule(
        0.0 if warmup_steps else learning_rate, learning_rate, warmup_steps, decay_steps
    )


def adamw(
    learning_rate: float,
    warmup_steps: int,
    decay_steps: int,
    b1: float,
    b2: float,
    eps: float,
    weight_decay: float,
    clip_norm: float,
) -> optax.GradientTransformation:
    """AdamW (arXiv:1711.05101), with weight decay on all parameters.

    warmup_steps, decay_steps: see `learning_rate_schedule`. clip_norm: the largest global norm of
    the gradient; 0 does not clip.
    """
    schedule = learning_rate_schedule(learning_rate, warmup_steps, decay_steps)
    optimizer = optax.adamw(schedule, b1, b2, eps, weight_decay=weight_decay)
    # One structure of the state either way, so that a run can change its mind.
    clip = optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity()
    return optax.chain(clip, optimizer)
