"""Cache of compiled samplers, so that calls with equal settings compile once."""

import jax
from ml_collections import ConfigDict

from diffusion_jax import parallel
from diffusion_jax.config.experiment import Experiment
from diffusion_jax.diffusion.checks import check_count
from diffusion_jax.generation.sampler import Sampler

LARGEST_BATCH = 64
# Compiled programs use hundreds of memory maps each; Linux ends a process that has 65,530.
MOST_PROGRAMS = 16
# Settings that a call of a sampler takes, as it takes the solver's options; all others are compiled
# into the sampler.
CALL_SETTINGS = ("guidance", "classifier_scale", "steps", "stride", "spacing")


class SamplerCache:
    """Samplers by the settings that are compiled into them, dropped once `MOST_PROGRAMS` exist."""

    def __init__(self) -> None:
        self._samplers: dict[tuple, Sampler] = {}
        self._programs: set[tuple] = set()  # compiled: (key of the sampler, steps)

    def sampler(
        self,
        experiment: Experiment,
        count: int,
        *,
        batch_size: int | None = None,
        frames: int = 0,
        watched: bool = False,
        for_edits: bool = False,
    ) -> Sampler:
        """Returns the sampler of an experiment's settings.

        Args:
            count: number of images; a batch is a power of two of at most 64, if batch_size is None.
            frames, watched: see `Sampler`.
            for_edits: True for a sampler with the levels of the experiment in every call.
        """
        if batch_size is not None:
            check_count("batch_size", batch_size)
        # Each size is compiled once: powers of two keep them few.
        wanted = batch_size or min(LARGEST_BATCH, 2 ** max(0, count - 1).bit_length())
        batch_size = parallel.round_up(wanted)
        steps = experiment.sampling.sampling_schedule.num_steps
        frames = min(frames, steps)
        key = (batch_size, frames, watched, _settings(experiment, for_edits))
        if (key, steps) not in self._programs and len(self._programs) >= MOST_PROGRAMS:
            self._samplers.clear()
            self._programs.clear()
            jax.clear_caches()  # keeps the programs of deleted samplers
        self._programs.add((key, steps))
        if key not in self._samplers:
            self._samplers[key] = Sampler.from_experiment(
                experiment, batch_size=batch_size, frames=frames, watched=watched
            )
        return self._samplers[key]


def _settings(experiment: Experiment, for_edits: bool) -> str:
    """Returns the settings that are compiled in, as a key."""
    sampling = experiment.config.sampling
    if for_edits:
        return sampling.to_json()
    compiled = {
        name: value
        for name, value in sampling.items()
        if name not in CALL_SETTINGS and not isinstance(value, ConfigDict)
    }
    return str(sorted(compiled.items()))
