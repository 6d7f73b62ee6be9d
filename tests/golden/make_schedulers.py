"""Trajectories of diffusers' schedulers, for `tests/sampling/test_diffusers_solvers.py`.

    python tests/golden/make_schedulers.py tests/golden/schedulers.npz

Made with diffusers 0.42.1 and PyTorch 2.13.0. The schedulers run in float64, so that what is
stored is their algorithm and not their rounding: `torch.float32` in
their code is replaced by float64.

A trajectory is one table, (levels visited, 2 + pixels): the c_noise of the model there,
sigma = noise / signal, and x. It is named `scheduler/schedule/steps`.
"""

import sys

import numpy as np
import torch

torch.float32 = torch.float64  # before diffusers builds its tables
torch.set_default_dtype(torch.float64)

import diffusers  # noqa: E402
from diffusers.schedulers import (  # noqa: E402
    scheduling_ddim,
    scheduling_ddpm,
    scheduling_euler_ancestral_discrete,
)

SHAPE = (1, 1, 2, 2)
STEPS = (5, 10, 25)
# What the model predicts on each schedule. On the cosine sigma reaches 20,000, and x0 from a
# predicted noise has few digits in anyone's float32.
PREDICTION = {"linear": "epsilon", "squaredcos_cap_v2": "v_prediction"}


def model(prediction, x, t):
    """A smooth function of the noisy image, in the variance-preserving scale, and the timestep."""
    t = float(t)
    if prediction == "epsilon":
        near = t / (t + 30)
        return near * x + 0.1 * (1 - near) * torch.sin(3 * x)
    return -0.7 * torch.tanh(2 * x) + 0.2 * torch.sin(3 * x + t / 100)


def variance_fraction(x):
    """The place of log sigma^2 between log beta-tilde (0) and log beta (1)."""
    return 0.5 + 0.4 * torch.sin(x)


class Noises:
    """In place of `randn_tensor`: given noises, one for each step."""

    def __init__(self, noises):
        self.noises, self.step = noises, 0

    def __call__(self, *args, **kwargs):
        return self.noises[self.step]


def make(cls, schedule, steps, **options):
    scheduler = getattr(diffusers, cls)(
        beta_schedule=schedule,
        beta_start=1e-4,  # of "linear"; the schedulers have different defaults
        beta_end=0.02,
        prediction_type=PREDICTION[schedule],
        **options,
    )
    scheduler.set_timesteps(steps)
    return scheduler


def table(timesteps, sigmas, states):
    """Rows of timestep, sigma and x. The last level has no timestep."""
    timesteps = np.append(timesteps, -1.0)
    states = torch.stack(states).flatten(1).numpy()
    return np.column_stack([timesteps, sigmas, states]).astype(np.float32)


def sigma_at(scheduler, timesteps):
    """noise / signal."""
    return (1 / scheduler.alphas_cumprod.numpy()[timesteps] - 1) ** 0.5


def states_of(scheduler, x, noises, c_noises, **options):
    """x at the start and after each call of `step`."""
    states = [x]
    for noises.step, (t, c_noise) in enumerate(zip(scheduler.timesteps, c_noises)):
        output = model(scheduler.config.prediction_type, scheduler.scale_model_input(x, t), c_noise)
        if scheduler.config.get("variance_type") == "learned_range":
            output = torch.cat([output, 2 * variance_fraction(x) - 1], 1)
        x = scheduler.step(output, t, x, **options).prev_sample
        states.append(x)
    return states


def follow_timesteps(scheduler, start, noises, **options):
    """DDIM and DDPM, at the levels of their timesteps, and then the clean image."""
    c_noises = scheduler.timesteps.numpy()
    states = states_of(scheduler, start, noises, c_noises, **options)
    return table(c_noises, np.append(sigma_at(scheduler, c_noises), 0.0), states)


def follow_inverse(scheduler, start, noises):
    """DDIM upwards, from the clean image: a step leads to the level of its own timestep."""
    c_noises = scheduler.timesteps.numpy()
    states = states_of(scheduler, start, noises, c_noises)
    return table(c_noises, np.append(0.0, sigma_at(scheduler, c_noises)), states)


def follow_sigmas(scheduler, start, noises, *, c_noises=None, every=1):
    """Solvers with a list of sigmas. every: how many calls of `step` are one step of the solver.

    x = x0 + sigma eps if the scheduler starts from sigma, else variance-preserving.
    """
    scheduler.sigmas = scheduler.sigmas.double()
    in_sigma = scheduler.init_noise_sigma != 1
    x = start * scheduler.sigmas[0] if in_sigma else start
    c_noises = scheduler.timesteps.numpy() if c_noises is None else c_noises
    states = states_of(scheduler, x, noises, c_noises)
    sigmas = scheduler.sigmas.numpy()
    # The last step has one call alone.
    return table(
        c_noises[::every],
        np.append(sigmas[:-1:every], sigmas[-1]),
        [*states[:-1:every], states[-1]],
    )


def follow_singlestep(scheduler, start, noises):
    """Sigmas even in log sigma, so that each step's second evaluation is in the middle of it.

    The model gets the fractional timestep of each sigma; the scheduler would round it down.
    """
    log_sigmas = np.log(sigma_at(scheduler, np.arange(1000)))
    sigmas = scheduler.sigmas[:-1].double().numpy()
    c_noises = np.array([scheduler._sigma_to_t(sigma, log_sigmas) for sigma in sigmas])
    return follow_sigmas(scheduler, start, noises, c_noises=c_noises, every=2)


def follow_heun(scheduler, start, noises):
    return follow_sigmas(scheduler, start, noises, every=2)


LEADING = {"clip_sample": False, "timestep_spacing": "leading"}
LINSPACE = {"timestep_spacing": "linspace"}
# name: (how to follow, scheduler, its options, options of its step)
RUNS = {
    "ddim": (follow_timesteps, "DDIMScheduler", LEADING, {}),
    "ddim_half": (follow_timesteps, "DDIMScheduler", LEADING, {"eta": 0.5}),
    "ddim_inverse": (follow_inverse, "DDIMInverseScheduler", LEADING, {}),
    "ddpm_small": (
        follow_timesteps,
        "DDPMScheduler",
        LEADING | {"variance_type": "fixed_small"},
        {},
    ),
    "ddpm_large": (
        follow_timesteps,
        "DDPMScheduler",
        LEADING | {"variance_type": "fixed_large"},
        {},
    ),
    "ddpm_learned": (
        follow_timesteps,
        "DDPMScheduler",
        LEADING | {"variance_type": "learned_range"},
        {},
    ),
    "euler": (follow_sigmas, "EulerDiscreteScheduler", LINSPACE, {}),
    "euler_ancestral": (follow_sigmas, "EulerAncestralDiscreteScheduler", LINSPACE, {}),
    "heun": (follow_heun, "HeunDiscreteScheduler", LEADING, {}),
    "dpmpp_2m": (
        follow_sigmas,
        "DPMSolverMultistepScheduler",
        {"timestep_spacing": "trailing"},
        {},
    ),
    "dpmpp_2s": (
        follow_singlestep,
        "DPMSolverSinglestepScheduler",
        {"use_exponential_sigmas": True, "lower_order_final": True},
        {},
    ),
}


def main(path):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(SHAPE, generator=generator)
    # Numbers of float32, which is what is stored.
    noises = Noises(torch.randn((max(STEPS), *SHAPE), generator=generator).float().double())
    for module in (scheduling_ddim, scheduling_ddpm, scheduling_euler_ancestral_discrete):
        module.randn_tensor = noises
    arrays = {"noises": noises.noises.flatten(1).numpy().astype(np.float32)}
    for name, (follow, cls, options, of_step) in RUNS.items():
        for schedule in PREDICTION:
            for steps in STEPS:
                # Whole steps of two evaluations, and a last one: an odd number.
                count = steps + 1 - steps % 2 if name == "dpmpp_2s" else steps
                scheduler = make(cls, schedule, count, **options)
                trajectory = follow(scheduler, start, noises, **of_step)
                arrays[f"{name}/{schedule}/{steps}"] = trajectory
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
