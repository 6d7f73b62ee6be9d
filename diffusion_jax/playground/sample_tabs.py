"""The tabs of the playground that need no picture: draw, interpolate, compare."""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from diffusion_jax.playground import inputs as parts
from diffusion_jax.playground import session
from diffusion_jax.playground.inputs import shown
from diffusion_jax.runs.run import Run

PAUSE = 0.06  # seconds that a frame of a film is shown
KEPT = 24  # earlier results


def draw_tab(run: Run, drawn: gr.State) -> None:
    """Draws images, and shows how noise turns into them. drawn: is given the images."""
    with gr.Row():
        with gr.Column(scale=2, min_width=280, elem_id="draw_settings"):
            what = parts.what_inputs(run, nothing="random")
            another = gr.Button("Another seed", size="sm")
            how = parts.how_inputs(run)
            button = gr.Button("Draw", variant="primary", elem_id="draw")
        with gr.Column(scale=5):
            result = parts.picture("Images", name="drawn", height=380)
            said = gr.Textbox(label="In Python", elem_id="said", buttons=["copy"], max_lines=1)
            gallery = gr.Gallery(
                label="Earlier results",
                columns=5,
                fit_columns=False,
                format="png",
                object_fit="contain",
                elem_classes="pixels",
                height=180,
            )
    earlier = gr.State([])

    def draw(before: list, *values: Any) -> Iterator[tuple]:
        wanted = parts.settings("random", values)
        rest = [gr.skip()] * 3
        made = None
        for found in parts.told(lambda tell: session.draw(run, wanted, tell)):
            if isinstance(found, session.Drawn):
                made = found
                break
            number, count, frame = found
            yield shown(frame), f"Denoising: {number} of {count}", *rest
            time.sleep(PAUSE)
        picture = shown(made.picture)
        results = [(picture, session.described(run, wanted)), *before][:KEPT]
        yield picture, session.call(run, wanted), results, results, made.images

    outputs = [result, said, gallery, earlier, drawn]
    parts.job(button, draw, [earlier, *what, *how], outputs, on=result)
    another.click(lambda: random.randrange(10_000), None, what[2], **parts.LIGHT)


def compare_tab(run: Run) -> None:
    """Draws the same noises and classes with two settings."""
    with gr.Row():
        what = parts.what_inputs(run, nothing="random")
    names, hows, results, saids = ("First", "Second"), [], [], []
    steps = session.own(run).steps
    with gr.Row():
        for name, number in zip(names, (steps, max(1, steps // 5))):
            with gr.Column():
                gr.Markdown(name)
                hows.append(parts.how_inputs(run, steps=number))
    button = gr.Button("Draw both", variant="primary", elem_id="compare")
    with gr.Row():
        for name in names:
            with gr.Column():
                results.append(parts.picture(name, height=400))
                saids.append(gr.Textbox(label="In Python", buttons=["copy"], max_lines=1))

    def compare(*values: Any) -> list[Any]:
        what, first, second = values[:3], values[3:6], values[6:]
        both = [parts.settings("random", [*what, *how]) for how in (first, second)]
        pictures = [shown(session.draw(run, wanted).picture) for wanted in both]
        return pictures + [session.call(run, wanted) for wanted in both]

    inputs = [*what, *hows[0], *hows[1]]
    parts.job(button, compare, inputs, [*results, *saids], on=results)


def interpolate_tab(run: Run) -> None:
    """The way from one image to another: of two seeds, or two pictures."""
    gr.Markdown("Between the images of two seeds, or between two pictures if both are given.")
    ends = []
    with gr.Row():
        for number, name in enumerate(("first", "second")):
            with gr.Column():
                seed = parts.seed_input(f"Seed of the {name}", number)
                label = parts.classes_input(
                    run, f"Class of the {name} (empty: random; with pictures none)"
                )
                with gr.Accordion("A picture in place of the seed", open=False):
                    given = parts.image_input(f"The {name}")
                ends.append((seed, label, given))
        with gr.Column():
            count = parts.count_input("Frames", 8)
            how = parts.how_inputs(run)
            button = gr.Button("Interpolate", variant="primary", elem_id="interpolate")
    with gr.Row():
        with gr.Column(scale=2):
            all_frames = parts.picture("All frames", height=400)
        with gr.Column():
            one = parts.picture("One frame", height=340)
            place = gr.Slider(1, 2, 1, step=1, label="Frame")
    frames = gr.State(None)

    def interpolate(*values: Any) -> tuple:
        (seeds, labels, files), (count, *how) = zip(values[:3], values[3:6]), values[6:]
        wanted = parts.settings("none", [None, count, seeds[0], *how])
        found = _between(run, seeds, labels, files, wanted)
        slider = gr.Slider(1, max(2, len(found)), 1, step=1)
        return shown(session.grid(found)), shown(session.large(found[0])), slider, found

    def show(found: np.ndarray | None, place: int) -> Any:
        if found is None:
            return None
        return shown(session.large(found[min(int(place), len(found)) - 1]))

    inputs = [component for end in ends for component in end]
    outputs = [all_frames, one, place, frames]
    parts.job(button, interpolate, [*inputs, count, *how], outputs, on=all_frames)
    place.change(show, [frames, place], one, **parts.LIGHT)


def _between(
    run: Run,
    seeds: Sequence[int | None],
    labels: Sequence[list[str]],
    files: Sequence[str | None],
    wanted: session.Settings,
) -> np.ndarray:
    """The frames, between pictures if there are two."""
    if None in seeds:
        raise ValueError("A seed is missing; type a number")
    if all(files):
        told = tuple(parts.text_of(chosen, "none") for chosen in labels)
        pictures = tuple(session.square(run, Path(file)) for file in files)
        return session.between_images(run, pictures, told, wanted)
    if any(files):
        raise ValueError("One picture was given; give two, or none to take the seeds")
    told = tuple(parts.text_of(chosen, "random") for chosen in labels)
    return session.between_seeds(run, tuple(seeds), told, replace(wanted, seed=seeds[0]))
