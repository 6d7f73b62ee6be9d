"""Plots the pictures of docs/concepts with the library itself, without a network or training.

    python -m docs.figures

The images are the digits that come with scikit-learn. Their best denoiser is known: E[x0 | x] is
the mean of all 1,797 images, each weighed by how likely x comes from it.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import mixture
from diffusion_jax import guidance, keys, losses, make_schedule, process, sampling
from diffusion_jax.data import make_source
from diffusion_jax.diffusion.parameterizations import PARAMETERIZATIONS
from diffusion_jax.diffusion.sampling_schedule import SamplingSchedule, to_float32
from diffusion_jax.diffusion.step_coefficients import StepCoefficients
from diffusion_jax.diffusion.types import Images, Level, Prediction
from diffusion_jax.images import normalize

FOLDER = Path(__file__).resolve().parent / "concepts"
GRAY = {"cmap": "gray", "vmin": -1, "vmax": 1}
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": plt.cycler(color=["#4269d0", "#ff725c", "#6cc5b0", "#efb118", "#97bbf5"]),
    "lines.linewidth": 1.6,
    "svg.hashsalt": "diffusion_jax",  # the same file each time
}


def main() -> None:
    plt.rcParams.update(STYLE)
    for draw in (level, denoiser, parameterization, solver, guided, bound):
        figure = draw()
        path = FOLDER / f"{draw.__name__}.png"
        figure.savefig(path, dpi=130, bbox_inches="tight", metadata={"Software": None})
        plt.close(figure)
        print(f"{path.relative_to(FOLDER.parent)}: {path.stat().st_size // 1000} kB")


def digits() -> Images:
    source = make_source("digits", split="all")
    return normalize(jnp.asarray(source.read(np.arange(len(source)))["image"]))


def level() -> Figure:
    """A digit at nine levels of `cosine`, and log SNR over time for three schedules."""
    cosine = make_schedule("cosine")
    path = cosine.sampling_schedule(8)
    x0 = digits()[3:4]
    noise = jax.random.normal(jax.random.key(1), x0.shape)
    figure = plt.figure(figsize=(7.2, 3.6), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 2.2))
    for axes, place in zip(top.subplots(1, 9), range(8, -1, -1)):
        here = numbers(path, place)
        show(axes, process.q_sample(here, x0, noise)[0])
        axes.set_title(f"{float(here.alpha):.2f}\n{float(here.sigma):.2f}", fontsize=8)
    top.supylabel("signal\nnoise", fontsize=8, rotation=0, ha="right")
    axes = bottom.subplots()
    u = np.linspace(0.001, 0.999, 500)
    for name in ("cosine", "linear"):
        chain = make_schedule(name).sampling_schedule(1000).levels
        alpha, sigma = (np.asarray(row, np.float64)[:-1] for row in (chain.alpha, chain.sigma))
        axes.plot(np.arange(1000, 0, -1) / 1000, 2 * np.log(alpha / sigma), label=name)
    for name in ("flow", "continuous_cosine"):
        here = make_schedule(name).level(u, np)
        style = "--" if name == "continuous_cosine" else "-"
        axes.plot(u, 2 * np.log(here.alpha / here.sigma), style, label=name)
    axes.set(xlabel="time: t / T, or u", ylabel="log SNR", ylim=(-16, 12), xlim=(0, 1))
    axes.legend(frameon=False)
    return figure


def denoiser() -> Figure:
    """The predictions of the exact denoiser of the digits for one of them, at seven levels."""
    path = make_schedule("edm").sampling_schedule(1000)
    data = digits()
    x0 = data[3:4]
    noise = jax.random.normal(jax.random.key(2), x0.shape)
    exact = exact_denoiser(data)
    figure, grid = plt.subplots(2, 7, figsize=(7.2, 2.4), layout="constrained")
    sigmas = np.asarray(path.levels.sigma)
    for column, sigma in enumerate((0.1, 0.3, 0.6, 1.0, 1.5, 3.0, 20.0)):
        here = numbers(path, int(np.abs(sigmas - sigma).argmin()))
        x = process.q_sample(here, x0, noise)
        show(grid[0, column], x[0] / jnp.sqrt(1 + here.sigma**2))
        show(grid[1, column], exact(x, here).x0[0])
        grid[0, column].set_title(f"sigma = {sigma:g}", fontsize=8)
    for row, name in enumerate(("x", "E[x0 | x]")):
        grid[row, 0].set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def parameterization() -> Figure:
    """The targets of all parameterizations, of one digit and one noise, at seven levels."""
    path = make_schedule("cosine").sampling_schedule(12)
    x0 = digits()[3:4]
    noise = jax.random.normal(jax.random.key(1), x0.shape)
    places = (11, 9, 7, 6, 5, 3, 1)
    figure, grid = plt.subplots(6, 7, figsize=(5.6, 4.9), layout="constrained")
    for column, place in enumerate(places):
        here = numbers(path, place)
        show(grid[0, column], process.q_sample(here, x0, noise)[0])
        sigma = float(here.sigma / here.alpha)
        grid[0, column].set_title(f"{sigma:.2g}", fontsize=8)
        for row, make in enumerate(PARAMETERIZATIONS.values(), 1):
            show(grid[row, column], make().target(here, x0, noise)[0], limit=2)
    figure.suptitle("sigma = noise / signal", fontsize=8)
    for row, name in enumerate(("x", *PARAMETERIZATIONS)):
        grid[row, 0].set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


def solver() -> Figure:
    """Three solvers with five evaluations, from the same eight points, and the exact flow."""
    schedule = make_schedule("edm")
    chosen = {"ddim": 5, "heun": 3, "dpmpp_2m": 5}
    figure, panels = plt.subplots(1, 3, figsize=(7.4, 2.6), sharey=True, layout="constrained")
    start = np.linspace(-2.4, 2.4, 8)
    options = {"spacing": "karras", "sigma_max": 3.0, "sigma_min": 0.02}
    fine = followed("heun", schedule, 200, start, options)
    for axes, (name, steps) in zip(panels, chosen.items()):
        for row in fine[1].T:
            axes.plot(fine[0], row, color="0.75", linewidth=3, zorder=0)
        sigmas, states = followed(name, schedule, steps, start, options)
        axes.plot(sigmas, states, ".-", color="#4269d0", linewidth=1, markersize=4)
        made = sampling.SOLVERS[name]()
        path = sampling.make_sampling_schedule(schedule, steps=steps, **options)
        count = sampling.count_evaluations(made, path, schedule)
        axes.set(title=f"{name}: {count} evaluations", xlabel="sigma", xlim=(3.05, 0))
        axes.set_xscale("function", functions=(np.cbrt, lambda root: root**3))
        axes.set_xticks((3, 1, 0.3, 0.05, 0), ("3", "1", "0.3", "0.05", "0"))
    panels[0].set_ylabel("x")
    return figure


def guided() -> Figure:
    """Samples of one of three classes in the plane, with four weights of guidance."""
    means = jnp.asarray([[-0.5, -0.35], [0.5, -0.35], [0.0, 0.55]])
    std = 0.3

    def of_class(x: Images, level: Level, label: jax.Array) -> Prediction:
        """E[x0 | x, class]; class 3 is the null class: any of the three."""
        alpha, sigma = process.per_image(level.alpha), process.per_image(level.sigma)
        variance = alpha**2 * std**2 + sigma**2
        centers = means[:, None, None, None, :]
        off = x[None] - alpha * centers
        likely = jax.nn.softmax(-jnp.sum(off**2, axis=(2, 3, 4), keepdims=True) / (2 * variance), 0)
        one_hot = jax.nn.one_hot(label, 3).T[:, :, None, None, None]
        share = jnp.where((label == 3)[:, None, None, None], likely, one_hot)
        x0 = jnp.sum(share * (centers + alpha * std**2 / variance * off), 0)
        return Prediction(x0, process.eps_from_x0(level, x, x0))

    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=900)
    data = np.asarray(means)[labels] + std * rng.standard_normal((900, 2))
    schedule = make_schedule("flow")
    path = sampling.make_sampling_schedule(schedule, steps=40)
    count = 400
    figure, panels = plt.subplots(1, 4, figsize=(7.4, 2.2), sharey=True, layout="constrained")
    image_keys = keys.per_example(keys.derive(0, "sample"), jnp.arange(count))
    for axes, scale in zip(panels, (0.0, 0.5, 1.5, 5.0)):
        settings = guidance.Guidance(scale=scale or None, clip=False)
        label, null = jnp.full(count, 2), jnp.full(count, 3)
        denoiser = guidance.guide(settings, of_class, label, null)
        heun = sampling.SOLVERS["heun"]()
        rows = path, heun.prepare(path, schedule)
        x, _ = sampling.sample(heun, denoiser, *rows, image_keys, (1, 1, 2))
        axes.scatter(*data.T, s=3, color="0.8", linewidths=0)
        axes.scatter(*np.asarray(x[:, 0, 0]).T, s=3, color="#4269d0", linewidths=0)
        axes.set(title=f"w = {scale:g}", xlim=(-1.6, 1.6), ylim=(-1.4, 1.9), xticks=(), yticks=())
    return figure


def bound() -> Figure:
    """The two bounds of a learned variance, and the variational bound with each."""
    schedule = make_schedule("cosine")
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 2.8), layout="constrained")
    for steps in (25, 100, 1000):
        row = sampling.make_sampling_schedule(schedule, steps=steps).steps
        ratio = np.asarray(row.posterior_variance)[:-1] / np.asarray(row.beta)[:-1]
        left.plot(np.linspace(1, 1 / steps, steps - 1), ratio, label=f"T = {steps}")
    left.set(xlabel="t / T", ylabel="beta-tilde / beta", ylim=(0, 1.02), xlim=(0, 1))
    left.legend(frameon=False, loc="lower right")

    data = digits()
    x0 = data[::18]
    exact = exact_denoiser(data)
    steps = 100
    path = to_float32(sampling.make_sampling_schedule(schedule, steps=steps))
    now, _ = path.pairs()
    noise = jax.random.normal(jax.random.key(3), x0.shape)

    @partial(jax.jit, static_argnums=2)
    def term(now: Level, step: StepCoefficients, fixed: str) -> jax.Array:
        x = process.q_sample(now, x0, noise)
        return jnp.mean(losses.vlb(step, x0, x, exact(x, now), fixed=fixed))

    for fixed in ("small", "large"):
        rows = [jax.tree.map(lambda row, i=i: row[i], (now, path.steps)) for i in range(steps)]
        bits = [float(term(*row, fixed)) / np.log(2) for row in rows]
        right.semilogy(np.arange(steps, 0, -1), bits, label=f"{fixed}: {sum(bits):.2f} in all")
    right.set(
        xlabel="t, of T = 100", ylim=(1e-5, 3), ylabel="term of the bound,\nbits per dimension"
    )
    right.legend(frameon=False)
    return figure


def exact_denoiser(data: Images) -> Callable[[Images, Level], Prediction]:
    """Returns E[x0 | x] for a uniform distribution on these images."""
    flat = data.reshape(len(data), -1)

    def denoise(x: Images, level: Level) -> Prediction:
        alpha, sigma = (jnp.asarray(n, jnp.float32) for n in (level.alpha, level.sigma))
        off = x.reshape(len(x), 1, -1) - alpha * flat[None]
        share = jax.nn.softmax(-jnp.sum(off**2, -1) / (2 * sigma**2), -1)
        x0 = (share @ flat).reshape(x.shape)
        return Prediction(x0, process.eps_from_x0(level, x, x0))

    return denoise


def followed(name: str, schedule, steps: int, start: np.ndarray, options: dict) -> tuple:
    """Returns (sigma, x) at every level of a solver, for values that start at `start`."""
    made = sampling.SOLVERS[name]()
    path = sampling.make_sampling_schedule(schedule, steps=steps, **options)
    coefficients = made.prepare(path, schedule)
    x = jnp.asarray(start, jnp.float32).reshape(1, 1, -1, 1)
    image_keys = keys.per_example(keys.derive(0, "sample"), jnp.arange(1))
    _, film = sampling.sample(
        made, mixture.denoiser, path, coefficients, image_keys, x.shape[1:], frames=steps, x=x
    )
    states = np.concatenate([x[None], film.x]).reshape(steps + 1, -1)
    return np.asarray(path.levels.sigma), states


def numbers(path: SamplingSchedule, place: int) -> Level:
    """Returns one level of a sampling schedule."""
    levels = path.levels
    return replace(
        levels,
        **{n: jnp.float32(getattr(levels, n)[place]) for n in ("alpha", "sigma", "c_noise")},
    )


def show(axes: Axes, image: jax.Array, limit: float = 1.0) -> None:
    axes.imshow(np.asarray(image)[..., 0], **{**GRAY, "vmin": -limit, "vmax": limit})
    axes.set(xticks=(), yticks=())
    for spine in axes.spines.values():
        spine.set_visible(False)


if __name__ == "__main__":
    main()
