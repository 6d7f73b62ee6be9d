"""What the tabs of the playground have in common: inputs of the settings, and errors in a line."""

import functools
import html
import inspect
import queue
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import gradio as gr
import numpy as np

from diffusion_jax import images
from diffusion_jax.playground import session
from diffusion_jax.playground.session import Settings
from diffusion_jax.runs.run import Run
from diffusion_jax.sampling import SOLVERS

# Of events that do not use the model, and do not wait for it.
LIGHT = {"concurrency_limit": None, "api_visibility": "private", "show_progress": "hidden"}


def job(
    button: gr.Button,
    function: Callable[..., Any],
    inputs: Sequence[gr.components.Component],
    outputs: Sequence[gr.components.Component],
    *,
    on: gr.components.Component | Sequence[gr.components.Component],
) -> None:
    """Has a click do what takes the model: one job at a time, the others wait.

    on: where it is shown that the job runs, or has failed.
    """
    button.click(
        reported(function),
        list(inputs),
        list(outputs),
        concurrency_limit=1,
        concurrency_id="model",
        show_progress_on=on,
        api_visibility="private",
    )


def what_inputs(
    run: Run, *, nothing: str, count: int | None = None
) -> list[gr.components.Component]:
    """Classes, count and seed. nothing: what no class stands for. count: None for the usual."""
    return [
        classes_input(run, f"Classes (empty: {nothing})"),
        count_input("Images", count or session.own(run).count),
        seed_input("Seed"),
    ]


def how_inputs(run: Run, *, steps: int | None = None) -> list[gr.components.Component]:
    """Solver, steps and guidance, which is hidden if it does nothing. None: the run's own."""
    mine = session.own(run)
    most = max(session.MOST_STEPS, mine.steps)
    guided = session.is_guided(run)
    return [
        gr.Dropdown(list(SOLVERS), value=mine.solver, label="Solver"),
        gr.Slider(1, most, steps or mine.steps, step=1, label="Steps"),
        gr.Number(mine.guidance, label="Guidance", minimum=0, step=0.1, visible=guided),
    ]


def count_input(label: str, value: int) -> gr.Slider:
    return gr.Slider(1, session.LARGEST_COUNT, value, step=1, label=label)


def classes_input(run: Run, label: str) -> gr.Dropdown:
    """A list of class names to choose from, or to type as for --labels; hidden without classes."""
    number, names = session.classes(run)
    names = names or [str(i) for i in range(number)]
    once = [name if names.count(name) == 1 else str(i) for i, name in enumerate(names)]
    shown = [name if name == value else f"{name} ({value})" for name, value in zip(names, once)]
    return gr.Dropdown(
        [*zip(shown, once), ("none", "none")],
        value=[],
        multiselect=True,
        allow_custom_value=True,
        label=label,
        visible=number > 0,
    )


def seed_input(label: str, value: int = 0) -> gr.Number:
    most = session.LARGEST_SEED
    return gr.Number(value, label=label, precision=0, minimum=0, maximum=most)


def image_input(label: str) -> gr.Image:
    """A picture that is given as a file."""
    found = gr.Image(
        label=label,
        type="filepath",
        format="png",
        sources=["upload", "clipboard"],
        elem_classes="pixels",
        height=300,
    )
    # Gradio would open the file, and say at length what is wrong with it; we do so in a line.
    found.preprocess = lambda payload: payload.path if payload else None
    return found


def picture(label: str, *, name: str | None = None, height: int | None = None) -> gr.Image:
    """A picture that is shown."""
    return gr.Image(
        label=label,
        show_label=name != "drawn",
        format="png",
        interactive=False,
        elem_id=name,
        elem_classes="pixels",
        buttons=["download", "fullscreen"],
        height=height,
    )


def settings(nothing: str, values: Sequence[Any]) -> Settings:
    """What `what_inputs` and `how_inputs` say. nothing: the labels if no class is chosen."""
    labels, count, seed, solver, steps, guidance = values
    numbers = {"seed": seed, "guidance": guidance}
    if missing := [name for name, value in numbers.items() if value is None]:
        raise ValueError(f"The {missing[0]} is missing; type a number")
    return Settings(
        text_of(labels, nothing), int(count), int(seed), solver, int(steps), float(guidance)
    )


def text_of(labels: Sequence[str] | None, nothing: str) -> str:
    """Classes in the form of --labels."""
    return ", ".join(labels or []) or nothing


def shown(picture: np.ndarray) -> Any:
    """A picture for Gradio."""
    return images.to_pil(picture)


def told(function: Callable[[Callable[..., None]], Any]) -> Iterator[Any]:
    """What function(tell) tells while it runs, as tuples, and at last its result.

    It runs in a thread of its own, which does not keep the program from ending. Who stops listening
    waits until it is done, so that two jobs never use the model together.
    """
    heard: queue.Queue = queue.Queue()
    done = Future()

    def run() -> None:
        try:
            done.set_result(function(lambda *found: heard.put(found)))
        except BaseException as error:
            done.set_exception(error)
        heard.put(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield from iter(heard.get, None)
        yield done.result()
    finally:
        thread.join()


def reported(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of an event, whose errors are shown on the page in one line."""

    @functools.wraps(function)
    def once(*values: Any) -> Any:
        try:
            return function(*values)
        except Exception as error:
            raise _in_a_line(error) from None

    @functools.wraps(function)
    def many(*values: Any) -> Iterator[Any]:
        try:
            yield from function(*values)
        except Exception as error:
            raise _in_a_line(error) from None

    return many if inspect.isgeneratorfunction(function) else once


def _in_a_line(error: Exception) -> gr.Error:
    """The error for the page. One that nobody expected is printed in the terminal."""
    expected = isinstance(error, ValueError | OSError | FloatingPointError)
    if not expected:
        traceback.print_exception(error)
    text = str(error) if expected else f"{type(error).__name__}; the terminal says more"
    # Gradio takes it for HTML.
    line = html.escape(" ".join(text.split())[:500], quote=False)
    return gr.Error(line, print_exception=False, duration=20)
