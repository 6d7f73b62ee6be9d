"""Inputs and outputs that the playground's tabs share, and events that use the model."""

import html
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gradio as gr
from gradio.components import Component

from diffusion_jax.generation import class_labels
from diffusion_jax.playground import sampling
from diffusion_jax.runs.run import Run
from diffusion_jax.sampling import SOLVERS

LARGEST_COUNT = 64
MOST_STEPS = 1000
LARGEST_SEED = 2**32 - 1

Components = Sequence[Component]
# Options of events that do not use the model and need not wait for it.
LIGHT = {"concurrency_limit": 4, "api_visibility": "private", "show_progress": "hidden"}


def solver_inputs(run: Run, *, steps: int | None = None) -> list[Component]:
    """Returns inputs for solver, steps and guidance, which is hidden if it has no effect."""
    own = sampling.run_settings(run)
    most = max(MOST_STEPS, own["steps"])
    guided = sampling.is_guided(run)
    return [
        gr.Dropdown(list(SOLVERS), value=own["solver"], label="Solver"),
        gr.Slider(1, most, steps or own["steps"], step=1, label="Steps"),
        gr.Number(own["guidance"], label="Guidance", minimum=0, step=0.1, visible=guided),
    ]


def read_settings(values: Sequence[Any]) -> dict[str, Any]:
    """Returns the values of the settings column by name; labels is "" if no class is chosen."""
    labels, count, seed, *solver = values
    if seed is None:
        raise ValueError("The seed is missing; type a number")
    labels = ", ".join(labels or [])
    return {"labels": labels, "count": int(count), "seed": int(seed), **read_solver(*solver)}


def read_solver(solver: str, steps: int, guidance: int | float | None) -> dict[str, Any]:
    """Returns the values of `solver_inputs` by name."""
    if guidance is None:
        raise ValueError("The guidance is missing; type a number")
    return {"solver": solver, "steps": int(steps), "guidance": float(guidance)}


def seed_input(label: str, value: int = 0) -> gr.Number:
    return gr.Number(value, label=label, precision=0, minimum=0, maximum=LARGEST_SEED)


def classes_input(run: Run, label: str) -> gr.Dropdown:
    """Returns a list of classes to choose from; other labels can be typed. Hidden without classes.

    A name that does not identify its class is shown with its index.
    """
    number, names = sampling.classes(run)
    labels = range(number + 1)  # the last is the null class
    values = [class_labels.label_text(label, number, names) for label in labels]
    texts = [class_labels.class_name(label, number, names) for label in labels]
    choices = [text if text == value else f"{text} ({value})" for text, value in zip(texts, values)]
    return gr.Dropdown(
        list(zip(choices, values)),
        value=[],
        multiselect=True,
        allow_custom_value=True,
        label=label,
        visible=number > 0,
    )


def file_input(label: str) -> gr.Image:
    """Returns an input for an image file."""
    image = gr.Image(
        label=label,
        type="filepath",
        format="png",
        sources=["upload", "clipboard"],
        elem_classes="pixels",
        height=300,
    )
    # Gradio would open the file; `pictures.read_square` does, with errors in one line.
    image.preprocess = lambda payload: payload.path if payload else None
    return image


def picture(label: str, *, name: str | None = None, height: int = 400) -> gr.Image:
    """Returns an output for a picture, which can be downloaded."""
    return gr.Image(
        label=label,
        format="png",
        interactive=False,
        elem_id=name,
        elem_classes="pixels",
        buttons=["download", "fullscreen"],
        height=height,
    )


def on_click(
    button: gr.Button,
    function: Callable[..., Iterator[Any]],
    inputs: Components,
    outputs: Components,
    *,
    settings: Components,
    progress: Component | Components,
) -> None:
    """Runs a generator that uses the model at a click; one runs at a time, the others wait.

    function: called with the settings and the values of the inputs; yields values of the outputs.
    progress: the outputs that show progress and errors.
    """

    def call(*values: Any) -> Iterator[Any]:
        with one_line_errors():
            wanted = read_settings(values[: len(settings)])
            yield from function(wanted, *values[len(settings) :])

    button.click(
        call,
        [*settings, *inputs],
        list(outputs),
        concurrency_limit=1,
        concurrency_id="model",
        show_progress_on=progress,
        api_visibility="private",
    )


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Shows errors on the page in one line; unexpected ones are printed in the terminal, too."""
    try:
        yield
    except Exception as error:
        text = str(error)
        if not isinstance(error, ValueError | OSError | FloatingPointError):
            traceback.print_exception(error)
            text = f"{type(error).__name__}; details are in the terminal"
        line = html.escape(" ".join(text.split())[:500], quote=False)  # Gradio takes it for HTML
        raise gr.Error(line, print_exception=False, duration=20) from None
