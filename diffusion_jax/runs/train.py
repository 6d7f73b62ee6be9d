"""Training: the loop around one compiled step, from a config to a finished workdir."""

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
from clu import parameter_overview
from jaxtyping import PyTree
from ml_collections import ConfigDict

from diffusion_jax import parallel
from diffusion_jax.data import Source
from diffusion_jax.files import lock
from diffusion_jax.runs import build, environment, run_folder
from diffusion_jax.runs.found_classes import settled
from diffusion_jax.runs.previews import make_preview
from diffusion_jax.runs.recovery import Recovery
from diffusion_jax.runs.trained import load_params
from diffusion_jax.runs.validation import validate
from diffusion_jax.training import fine_tuning, objectives
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.damage import writing_into
from diffusion_jax.training.fallback import restore_newest
from diffusion_jax.training.interruption import interruptible
from diffusion_jax.training.loop import run_steps
from diffusion_jax.training.metrics import Metrics, Running
from diffusion_jax.training.reporting import Reporter
from diffusion_jax.training.state import TrainState, init_state
from diffusion_jax.training.step import make_train_step

# What a run cannot change once it has parameters.
FIXED = ("behaviour", "model.", "schedule.", "data.resolution", "parametrisation")
FREE = ("model.dtype", "model.dropout", "model.remat")
# Of the EDM schedule, what only sampling reads.
FREE += ("schedule.edm.sigma_min", "schedule.edm.sigma_max", "schedule.edm.rho")


def train(config: ConfigDict, workdir: Path) -> TrainState:
    """Trains until config.steps, from the newest checkpoint in `workdir` if there is one.

    A continued run takes the same steps, bit for bit, as one that was never stopped. SIGTERM,
    SIGUSR1 or Ctrl-C ends the run after the current step, with a checkpoint; the state that is
    returned then has fewer steps.

    Raises ValueError for a mistake in the config, if `workdir` holds a run of another model, of
    another seed or with more steps than were asked for, or while another process trains there,
    FloatingPointError after config.max_skipped steps in a row that are not finite, and SaveFailed
    if a checkpoint cannot be written.
    """
    begun = time.monotonic()
    config = settled(config)
    validate(config)
    parallel.check_batch_size(config.batch_size, config.micro_batches)
    changes = _changes_since(config, workdir)
    _check_steps(config, workdir)
    if config.init_from and not (workdir / run_folder.CHECKPOINTS).is_dir():
        _config_to_start_from(config.init_from)  # which a run that goes on no longer needs
    source = build.open_source(config)
    _check_classes(config, workdir, source)
    fresh = partial(fresh_state, config)

    with (
        interruptible() as interrupted,
        parallel.entered_by_first(lock.only_one(workdir, "trained")),
        Checkpoints(
            workdir / run_folder.CHECKPOINTS,
            keep_latest=config.keep_latest,
            keep_every=config.keep_every,
            create=True,
        ) as checkpoints,
    ):
        about, news = {}, []
        if checkpoints.steps():
            state, about, news = restore_newest(checkpoints, jax.eval_shape(fresh))
        elif config.init_from:
            state, news = _from_another_run(run_once(fresh), config.init_from)
        else:
            state = run_once(fresh)
        state = parallel.replicate(state)
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
                run_folder.save(config, workdir, source.class_names)
                (workdir / "parameters.txt").write_text(table + "\n")
                (workdir / "dataset.json").write_text(json.dumps(known, indent=2) + "\n")
                environment.record(workdir, start)

        step = parallel.data_parallel(make_step(config))
        data = build.training_batches(config, source, seen)
        draw = make_preview(config, source)
        since_line = Running(about.get("since_line"))

        def save(number: int, state: TrainState) -> None:
            images_seen = seen + (number - start) * config.batch_size
            position = {"images_seen": images_seen, "data": known, "average": averaged}
            position["since_line"] = since_line.saved()
            checkpoints.save(number, state, about=position)

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
            for change in changes + _changes_of_data(about, known):
                report.say(f"Changed since the last start: {change}")
            if start:
                over = start == config.steps
                going_on = f"Continuing from the checkpoint of step {start}"
                report.say(f"All {start} steps are done already" if over else going_on)
            recover = Recovery(config, checkpoints, report.say)
            rest = (report, interrupted, checkpoints.check, recover, since_line)
            return run_steps(config, step, state, data, draw, save, *rest)


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


def run_once(function: Callable[[], PyTree]) -> PyTree:
    """function(), compiled in less time than `jax.jit` takes, to a program that may be slower."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 1})()


def make_step(config: ConfigDict) -> Callable[[TrainState, PyTree], tuple[TrainState, Metrics]]:
    """The training step of a config, for `parallel.data_parallel`."""
    return make_train_step(
        _make_objective(config),
        build.make_optimizer(config),
        build.make_timesteps(config),
        seed=config.seed,
        micro_batches=config.micro_batches,
        average=build.make_average(config),
        second_average=build.make_second_average(config),
        constrain=build.make_model(config).constrained,
    )


def _make_objective(config: ConfigDict) -> objectives.Objective:
    model = build.make_model(config)
    parts = (
        model,
        build.make_schedule(config),
        build.make_parametrisation(config),
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
        return run_folder.load(Path(init_from).expanduser())
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(f"init_from={init_from}: {error}") from None


def _changes_since(config: ConfigDict, workdir: Path) -> list[str]:
    """What differs from the config that the run in `workdir` was last started with.

    Raises ValueError if something differs that shapes the network or the schedule, or the seed.
    """
    if workdir.exists() and not workdir.is_dir():
        raise ValueError(f"The workdir {workdir} is a file; choose another --workdir")
    if not (workdir / run_folder.CONFIG_FILE).exists():
        return []
    changes = run_folder.differences(run_folder.load(workdir), config)
    chosen = {"schedule": config.schedule.name, "parametrisations": config.parametrisation}

    def is_fixed(change: str) -> bool:
        section, *rest = change.split(":")[0].split(".")
        # Options of what was not chosen are free.
        idle = len(rest) == 2 and section in chosen and rest[0] != chosen[section]
        return change.startswith(FIXED) and not change.startswith(FREE) and not idle

    fixed = [change for change in changes if is_fixed(change)]
    if fixed:
        raise ValueError(
            f"{workdir} holds a run of another model ({'; '.join(fixed)}); choose another --workdir"
        )
    if seeds := [change for change in changes if change.startswith("seed:")]:
        before = seeds[0].removeprefix("seed: ").partition(" ->")[0]
        raise ValueError(
            f"{workdir} holds a run of seed={before}, which would draw other noise and batches "
            f"with seed={config.seed}; give seed={before} to go on, or choose another workdir"
        )
    return changes


def _check_steps(config: ConfigDict, workdir: Path) -> None:
    """Raises ValueError if the run in `workdir` is beyond the steps that were asked for."""
    folders = (workdir / run_folder.CHECKPOINTS).glob("[0-9]*")
    done = max((int(path.name) for path in folders if path.name.isdecimal()), default=0)
    if done > config.steps:
        raise ValueError(
            f"{workdir} has taken {done} steps already, and steps={config.steps} was asked for; "
            f"give steps={done} or more, or choose another workdir"
        )


def _check_classes(config: ConfigDict, workdir: Path, source: Source) -> None:
    """Raises ValueError if the labels of the run in `workdir` stand for other classes."""
    started = (workdir / run_folder.CONFIG_FILE).is_file()
    before = run_folder.class_names(workdir) if started else []
    if config.model.num_classes and before and before != list(source.class_names):
        changed = [f"{old} -> {new}" for old, new in zip(before, source.class_names) if old != new]
        raise ValueError(
            f"{workdir} holds a run of other classes ({'; '.join(changed[:5])}); name them as they "
            "were, or choose another --workdir"
        )


def _about_average(config: ConfigDict, start: int, before: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of its averages. before: what that of step `start` said."""
    options = config.averages.get("power", {})
    widths = [options.sigma_rel, options.second_sigma_rel] if config.average == "power" else []
    of = {"name": config.average, "sigma_rels": [width for width in widths if width]}
    same = before.get("of") == of
    return {"of": of, "since": before["since"] if same else start}


def _changes_of_data(about: dict, now: dict) -> list[str]:
    before = about.get("data", now)
    return [
        f"the data's {name}: {before[name]} -> {now[name]}"
        for name in now
        if name in before and before[name] != now[name]
    ]
