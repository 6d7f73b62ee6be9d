"""Trajectories of diffusers' multi-step schedulers, for `test_diffusers_multistep_solvers.py`.

    python tests/golden/make_multistep_schedulers.py tests/golden/multistep_schedulers.npz

Model, tables and versions are as in `make_schedulers.py`.
"""

import sys

import make_schedulers as base  # before diffusers: it makes float32 float64
import numpy as np
import torch
from diffusers.schedulers import scheduling_dpmsolver_multistep

# Below and above 15, where the order of the last steps changes.
STEPS = (5, 10, 14, 15, 25)
# PNDM predicts noise, and so does its model: diffusers would take means of v otherwise. Its steps
# are of one length, and its half steps of whole timesteps: 1,000 / steps is even.
PNDM_STEPS = (5, 10, 25)


def follow_pndm(scheduler, start, noises, *, between):
    """The states that belong to the levels; between: the calls of `step` that are in between."""
    c_noises = scheduler.timesteps.numpy()
    states = base.states_of(scheduler, start, noises, c_noises)
    ends = np.delete(np.arange(len(c_noises) + 1), between)
    levels = scheduler._timesteps[::-1]
    sigmas = base.sigma_at(scheduler, levels.astype(int))
    last = (1 / scheduler.final_alpha_cumprod.item() - 1) ** 0.5
    return base.table(levels, np.append(sigmas, last), [states[end] for end in ends])


TRAILING = {"timestep_spacing": "trailing"}
DPM, UNIPC = "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"
NOISY_END = {"final_sigmas_type": "sigma_min"}
RUNS = {
    "dpmpp_2m": (DPM, {}),
    "dpmpp_3m": (DPM, {"solver_order": 3}),
    "dpmpp_3m_full": (DPM, {"solver_order": 3, "lower_order_final": False}),
    "dpmpp_3m_noisy_end": (DPM, {"solver_order": 3, **NOISY_END}),
    "dpmpp_sde_2m": (DPM, {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": (UNIPC, {}),
    "unipc_1": (UNIPC, {"solver_order": 1}),
    "unipc_3": (UNIPC, {"solver_order": 3}),
    # With B(h) = h the step to the clean image is not a number.
    "unipc_bh1": (UNIPC, {"solver_type": "bh1", **NOISY_END}),
    "unipc_3_bh1": (UNIPC, {"solver_order": 3, "solver_type": "bh1", **NOISY_END}),
    "unipc_full": (UNIPC, {"lower_order_final": False, **NOISY_END}),
}
# What a run's calls of `step` lead to before they lead to the next level.
PNDM_RUNS = {
    "pndm_heun": ({"skip_prk_steps": True}, [1]),
    "pndm_runge_kutta": ({"skip_prk_steps": False}, [1, 2, 3, 5, 6, 7, 9, 10, 11]),
}


def main(path):
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(base.SHAPE, generator=generator)
    noises = base.Noises(torch.randn((max(STEPS), *base.SHAPE), generator=generator))
    scheduling_dpmsolver_multistep.randn_tensor = noises
    arrays = {"noises": noises.noises.flatten(1).numpy()}
    for schedule in base.PREDICTION:
        for steps in STEPS:
            for name, (cls, options) in RUNS.items():
                scheduler = base.make(cls, schedule, steps, **TRAILING, **options)
                trajectory = base.follow_sigmas(scheduler, start, noises)
                arrays[f"{name}/{schedule}/{steps}"] = trajectory
    base.PREDICTION = dict.fromkeys(base.PREDICTION, "epsilon")
    for schedule in base.PREDICTION:
        for steps in PNDM_STEPS:
            for name, (options, between) in PNDM_RUNS.items():
                scheduler = base.make(
                    "PNDMScheduler",
                    schedule,
                    steps,
                    timestep_spacing="leading",
                    set_alpha_to_one=True,
                    **options,
                )
                trajectory = follow_pndm(scheduler, start, noises, between=between)
                arrays[f"{name}/{schedule}/{steps}"] = trajectory
    np.savez_compressed(path, **arrays)


if __name__ == "__main__":
    main(sys.argv[1])
