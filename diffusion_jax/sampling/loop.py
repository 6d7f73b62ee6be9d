"""The sampling loop: any solver, on any sampling schedule, as one `lax.scan`."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from diffusion_jax.diffusion import keys as random_keys
from diffusion_jax.diffusion.process import per_image
from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule
from diffusion_jax.diffusion.types import Denoiser, Images, Keys, Leaf, Level, Prediction
from diffusion_jax.sampling.solver import Coefficients, Solver, State

Index = Int[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Trajectory:
    """Intermediate states of sampling, (frames, batch, height, width, channels).

    x: state after a step. x0: clean image predicted at the beginning of that step, or of the last
    earlier step with a prediction.
    """

    x: Leaf
    x0: Leaf


def sample(
    solver: Solver,
    denoiser: Denoiser,
    sampling_schedule: SamplingSchedule,
    coefficients: Coefficients,
    keys: Keys,
    shape: tuple[int, int, int],
    *,
    frames: int = 0,
    watch: Callable[[Index, Images], None] | None = None,
    x: Images | None = None,
) -> tuple[Images, Trajectory]:
    """Runs the solver from the first level of the sampling schedule to the last.

    Args:
        coefficients: result of `solver.prepare(sampling_schedule, schedule)`.
        keys: one for each image, the source of all its noise. An image depends neither on its
            neighbors in the batch nor on the number of devices.
        shape: (height, width, channels).
        frames: number of states to return, evenly spaced and ending with the last.
        watch: called by the compiled program with (number, x0) of each frame; a
            `jax.debug.callback`, for example.
        x: state at the first level; None for `starting_noise` times `init_noise_std`.

    Returns:
        x at the last level, (batch, height, width, channels), not clipped; and the trajectory,
        whose arrays have a leading dimension of 0 without frames.

    Raises:
        ValueError: more frames than steps.
    """
    num_steps = sampling_schedule.num_steps
    if not 0 <= frames <= num_steps:
        raise ValueError(f"frames={frames} is not in 0..{num_steps}, the number of sampling steps")
    first = starting_noise(keys, shape) * sampling_schedule.init_noise_std if x is None else x
    # Steps have the keys num_steps .. 1; key 0 is the starting noise.
    key_indices = np.arange(num_steps, 0, -1)
    # Each frame is written in several steps, of which the last one remains.
    frame_indices = np.arange(num_steps) * frames // num_steps
    frame_ends = np.diff(frame_indices, append=frames) > 0
    blank = jnp.zeros((frames, *first.shape), first.dtype)
    trajectory = Trajectory(blank, blank)

    def solver_step(
        levels: tuple[Level, Level],
        row: Coefficients,
        beta: Leaf,
        x: Images,
        noise: Images,
        state: State,
        x0: Images,
    ) -> tuple[Images, State, Images]:
        """Returns (x, state, predicted x0) after a step of the solver."""
        predicted = []

        def recording(x: Images, level: Level) -> Prediction:
            predicted.append(denoiser(x, level))
            return predicted[-1]

        x, state = solver.step(recording, *levels, row, x, noise, state)
        return x, state, predicted[0].x0

    def renoise(
        levels: tuple[Level, Level],
        row: Coefficients,
        beta: Leaf,
        x: Images,
        noise: Images,
        state: State,
        x0: Images,
    ) -> tuple[Images, State, Images]:
        """Samples x_next ~ q(x_next | x), and resets the solver's state."""
        now, next = levels
        ratio = per_image(next.alpha) / per_image(now.alpha)
        x = ratio * x + jnp.sqrt(per_image(beta)) * noise
        return x, solver.init(x), x0

    def call_watch(trajectory: Trajectory, frame: Index) -> None:
        assert watch is not None
        watch(frame, trajectory.x0[frame])

    def body(carry: tuple, row: tuple) -> tuple[tuple, None]:
        x, state, x0, trajectory = carry
        levels, coefficients, beta, noised, key_index, frame, frame_ends_here = row
        noise = random_keys.normal(random_keys.at_step(keys, key_index), shape)
        step = levels, coefficients, beta, x, noise, state, x0
        if noised is None:
            x, state, x0 = solver_step(*step)
        else:
            x, state, x0 = jax.lax.cond(noised, renoise, solver_step, *step)
        if frames:
            trajectory = Trajectory(trajectory.x.at[frame].set(x), trajectory.x0.at[frame].set(x0))
        if frames and watch is not None:
            jax.lax.cond(
                frame_ends_here, call_watch, lambda trajectory, frame: None, trajectory, frame
            )
        return (x, state, x0, trajectory), None

    rows = (
        sampling_schedule.pairs(),
        coefficients,
        sampling_schedule.steps.beta,
        sampling_schedule.noised,
        key_indices,
        frame_indices,
        frame_ends,
    )
    start = first, solver.init(first), jnp.zeros_like(first), trajectory
    (last, _, _, trajectory), _ = jax.lax.scan(body, start, jax.tree.map(jnp.asarray, rows))
    return last, trajectory


def starting_noise(keys: Keys, shape: tuple[int, ...]) -> Images:
    """Draws standard normal noise for each key, which does not depend on the number of steps."""
    return random_keys.normal(random_keys.at_step(keys, 0), shape)
