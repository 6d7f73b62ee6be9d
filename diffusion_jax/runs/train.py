"""Training: the loop around one compiled step, from a config to a finished workdir."""

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from clu import parameter_overview
from jaxtyping import PyTree
from ml_collections import ConfigDict

from diffusion_jax import parallel
from diffusion_jax.config import build
from diffusion_jax.config.num_classes import resolve_num_classes
from diffusion_jax.config.validation import validate
from diffusion_jax.files import lock
from diffusion_jax.runs.sample_grids import make_preview
from diffusion_jax.training import fine_tuning, objectives
from diffusion_jax.training.checkpoint_errors import writing_into
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.logging import Reporter, read_metrics
from diffusion_jax.training.loop import run_steps
from diffusion_jax.training.metrics import Metrics, Running
from diffusion_jax.training.nan_guard import Recovery
from diffusion_jax.training.preemption import interruptible
from diffusion_jax.training.restore import restore_newest
from diffusion_jax.training.sharding import Replicated, Sharded, Sharding, run_once
from diffusion_jax.training.state import TrainState, init_state
from diffusion_jax.training.step import make_train_step
from diffusion_jax.workdir import environment, resume
from diffusion_jax.workdir.classes import save_classes
from diffusion_jax.workdir.config import load_config, save_config
from diffusion_jax.workdir.layout import CHECKPOINTS
from diffusion_jax.workdir.parameters import load_params


def train(config: ConfigDict, workdir: Path) -> TrainState:
    """Trains until config.steps, from the newest checkpoint in `workdir` if there is one.

    A continued run takes the same steps, bit for bit, as one that was never stopped. SIGTERM,
    SIGUSR1 or Ctrl-C ends the run after the current step, with a checkpoint; the state that is
    returned then has fewer steps.

    Raises ValueError for a mistake in the config, if `workdir` holds a run of another model, of
    another seed or with more steps than were asked for, or while another process trains there,
    FloatingPointError after config.max_nan_steps steps in a row that are not finite, and SaveFailed
    if a checkpoint cannot be written.
    """
    begun = time.monotonic()
    config = resolve_num_classes(config)
    validate(config)
    parallel.check_batch_size(config.batch_size, config.micro_batches)
    changes = resume.changes_since(config, workdir)
    resume.check_steps(config, workdir)
    if config.init_from and not (workdir / CHECKPOINTS).is_dir():
        _config_to_start_from(config.init_from)  # which a run that goes on no longer needs
    source = build.open_source(config)
    resume.check_classes(config, workdir, source)
    fresh = partial(fresh_state, config)
    shapes = partial(jax.eval_shape, fresh)
    sharding = make_sharding(config)

    with (
        interruptible() as interrupted,
        parallel.entered_by_first(lock.only_one(workdir, "trained")),
        Checkpoints(
            workdir / CHECKPOINTS,
            keep_latest=config.keep_latest,
            keep_every=config.keep_every,
            create=True,
        ) as checkpoints,
    ):
        about, news = {}, []
        if checkpoints.steps():
            state, about, news = restore_newest(checkpoints, shapes())
            state = sharding.place(state)
        elif config.init_from:
            state, news = _from_another_run(run_once(fresh), config.init_from)
            state = sharding.place(state)
        else:
            state = sharding.init(fresh)
        if not checkpoints.steps() and read_metrics(workdir):
            news.append(
                f"There is no checkpoint in {checkpoints.folder}: training starts from the "
                "beginning, and its metrics replace those that are there"
            )
        start = int(state.step)
        # Images seen so far, which is where the stream of examples goes on.
        seen = about.get("images_seen", start * config.batch_size)
        if config.data.drop_last:  # after another batch size, from the next whole batch of this one
            seen = -(-seen // config.batch_size) * config.batch_size
        known = source.description.provenance()
        averaged = _about_average(config, start, about.get("average", {}))
        if jax.process_index() == 0 and start < config.steps:
            table = parameter_overview.get_parameter_overview(state.params, include_stats=False)
            with writing_into(workdir):
                save_config(config, workdir)
                save_classes(source.class_names, workdir)
                (workdir / "parameters.txt").write_text(table + "\n")
                (workdir / "dataset.json").write_text(json.dumps(known, indent=2) + "\n")
                environment.record(workdir, start)

        step = make_program(config, sharding)
        data = build.training_batches(config, source, seen)
        preview = make_preview(config, source)
        since_line = Running(about.get("since_line"))

        def save(number: int, state: TrainState) -> None:
            images_seen = seen + (number - start) * config.batch_size
            position = {"images_seen": images_seen, "data": known, "average": averaged}
            position["since_line"] = since_line.saved()
            checkpoints.save(number, sharding.unshard(state), metadata=position)

        def draw(state: TrainState) -> np.ndarray | None:
            return preview(sharding.ema_params(state))

        with Reporter(
            workdir,
            start_step=start,
            steps=config.steps,
            batch_size=config.batch_size,
            begun=begun,
            write=jax.process_index() == 0,
        ) as report:
            report.say(f"Data: {source.description.summary()}")
            for line in news:
                report.say(line)
            for change in changes + resume.changes_of_data(about, known):
                report.say(f"Changed since the last start: {change}")
            if start:
                over = start == config.steps
                going_on = f"Continuing from the checkpoint of step {start}"
                report.say(f"All {start} steps are done already" if over else going_on)
            recover = Recovery(
                checkpoints,
                roll_back=config.roll_back,
                learning_rate=build.make_learning_rate(config),
                shapes=shapes,
                sharding=sharding,
                log=report.say,
            )
            rest = (report, interrupted, checkpoints.check, recover, since_line)
            return sharding.unshard(run_steps(config, step, state, data, draw, save, *rest))


def fresh_state(config: ConfigDict) -> TrainState:
    """The state before a config's first step; under jax.eval_shape it costs nothing."""
    return init_state(
        build.make_model(config),
        build.make_optimizer(config),
        config.seed,
        config.data.resolution,
        build.make_timesteps(config).init(),
        second=build.make_second_average(config) is not None,
    )


def make_sharding(config: ConfigDict) -> Sharding:
    """Where the state of a config lies."""
    if not config.shard_state:
        return Replicated()
    return Sharded(build.make_optimizer(config), jax.eval_shape(partial(fresh_state, config)))


def make_program(
    config: ConfigDict, sharding: Sharding, devices: Sequence[jax.Device] | None = None
) -> Callable:
    """The training step of a config on all devices, see `parallel.data_parallel`."""
    return parallel.data_parallel(make_step(config, sharding), devices, sharding.axes())


def make_step(
    config: ConfigDict, sharding: Sharding
) -> Callable[[TrainState, PyTree], tuple[TrainState, Metrics]]:
    """The same on one of them."""
    return make_train_step(
        _make_objective(config),
        build.make_optimizer(config),
        build.make_timesteps(config),
        seed=config.seed,
        micro_batches=config.micro_batches,
        average=build.make_average(config),
        second_average=build.make_second_average(config),
        constrain=build.make_model(config).constrained,
        sharding=sharding,
    )


def _make_objective(config: ConfigDict) -> objectives.Objective:
    model = build.make_model(config)
    parts = (
        model,
        build.make_schedule(config),
        build.make_parameterization(config),
        build.make_timesteps(config),
    )
    if model.classifies:
        return objectives.classification(*parts)
    return objectives.denoising(
        *parts,
        loss=build.make_loss(config),
        weight=build.make_weight(config),
        vlb_weight=config.loss.vlb_weight,
        label_dropout=config.label_dropout,
    )


def _from_another_run(state: TrainState, init_from: str) -> tuple[TrainState, list[str]]:
    """The fresh state with the averaged parameters of another run, and the lines to report.

    Raises ValueError, which names `init_from`.
    """
    workdir = Path(init_from).expanduser()
    try:
        step, params = load_params(workdir, _config_to_start_from(init_from))
        state, transferred = fine_tuning.transfer(state, params)
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"init_from={init_from}: {error}") from None
    return state, [f"Starting from step {step} of {workdir}", *transferred.lines()]


def _config_to_start_from(init_from: str) -> ConfigDict:
    """The config of that run. Raises ValueError, which names `init_from`, if there is none."""
    try:
        return load_config(Path(init_from).expanduser())
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"init_from={init_from}: {error}") from None


def _about_average(config: ConfigDict, start: int, before: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of its averages. before: what that of step `start` said."""
    options = config.averages.get("power", {})
    widths = [options.sigma_rel, options.second_sigma_rel] if config.average == "power" else []
    of = {"name": config.average, "sigma_rels": [width for width in widths if width]}
    same = before.get("of") == of
    return {"of": of, "since": before["since"] if same else start}
