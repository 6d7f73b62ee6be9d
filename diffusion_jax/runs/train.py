"""Training: from a config to a finished workdir."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from clu import parameter_overview
from jaxtyping import Float, PyTree
from ml_collections import ConfigDict

from diffusion_jax import parallel
from diffusion_jax.config.experiment import Experiment
from diffusion_jax.evaluation.provenance import devices
from diffusion_jax.files import lock
from diffusion_jax.models.field_types import dtype_of
from diffusion_jax.runs.datasets import mirror_note, open_source, training_batches
from diffusion_jax.runs.init_from import fine_tune, load_init_from
from diffusion_jax.runs.sample_grids import make_sample_grid
from diffusion_jax.training.checkpoint_integrity import writing_into
from diffusion_jax.training.checkpoints import Checkpoints
from diffusion_jax.training.logging import Reporter, read_metrics
from diffusion_jax.training.loop import TrainingLoop
from diffusion_jax.training.metrics import Metrics, RunningMeans
from diffusion_jax.training.nan_guard import Rollback
from diffusion_jax.training.optimizers import count_updates, learning_rates
from diffusion_jax.training.preemption import interruptible
from diffusion_jax.training.restore import restore_newest
from diffusion_jax.training.sharding import Replicated, Sharded, Sharding, check_memory, jit_once
from diffusion_jax.training.state import TrainState, init_state
from diffusion_jax.training.step import make_train_step
from diffusion_jax.workdir import environment, resume
from diffusion_jax.workdir.run_files import (
    CHECKPOINTS,
    save_classes,
    save_config,
)


def train(experiment: Experiment, workdir: Path) -> TrainState:
    """Trains until config.steps, from the newest checkpoint in `workdir` if there is one.

    A resumed run takes the same steps as an uninterrupted one, bit for bit. SIGTERM, SIGUSR1 or
    Ctrl-C ends the run after the current step, with a checkpoint.

    Returns:
        The full state after the last step taken, which is before config.steps if interrupted.

    Raises:
        ValueError: if the batch size is not divisible by the number of devices; if `workdir` holds
            a run of another model or seed, or with more steps than config.steps; or if another
            process trains there.
        FloatingPointError: after config.max_nan_steps non-finite steps in a row.
        SaveFailed: if a checkpoint cannot be written.
    """
    begun = time.monotonic()
    automatic = experiment.config.model.get("dtype") == "auto"
    experiment = _with_dtype(experiment)
    config = experiment.config
    parallel.check_batch_size(config.batch_size, config.micro_batches)
    changes = resume.changes_since(config, workdir)
    resume.check_steps(config, workdir)
    if config.init_from and not (workdir / CHECKPOINTS).is_dir():
        load_init_from(config.init_from)  # raises early; a resumed run does not read it
    source = open_source(config)
    resume.check_classes(config, workdir, source)
    provenance = source.description.provenance()
    provenance["notes"] += mirror_note(config)

    new_state = partial(init_train_state, experiment)
    shapes = partial(jax.eval_shape, new_state)
    sharding = make_sharding(experiment)
    check_memory(sharding.bytes_per_device(shapes(), jax.device_count()))
    with (
        interruptible() as interrupted,
        parallel.entered_on_process_0(lock.only_one(workdir, "trained")),
        Checkpoints(
            workdir / CHECKPOINTS,
            keep_latest=config.keep_latest,
            keep_every=config.keep_every,
            create=True,
        ) as checkpoints,
    ):
        metadata, notes = {}, []  # of the restored checkpoint; lines to log
        if checkpoints.steps():
            state, metadata, notes = restore_newest(checkpoints, shapes())
            state = sharding.place(state)
        elif config.init_from:
            state, notes = fine_tune(jit_once(new_state), config, source.class_names)
            state = sharding.place(state)
        else:
            state = sharding.init(new_state)
        if not checkpoints.steps() and read_metrics(workdir):
            notes.append(
                f"There is no checkpoint in {checkpoints.folder}: training starts from the "
                "beginning, and its metrics replace the ones there"
            )
        start = int(state.step)
        # Position in the stream of examples.
        images_seen = metadata.get("images_seen", start * config.batch_size)
        if config.data.drop_last:  # the batch size may have changed: skip to a whole batch
            images_seen = -(-images_seen // config.batch_size) * config.batch_size
        ema = _describe_ema(config, start, metadata.get("ema", {}))

        if jax.process_index() == 0 and start < config.steps:
            table = parameter_overview.get_parameter_overview(state.params, include_stats=False)
            with writing_into(workdir):
                save_config(config, workdir)
                save_classes(source.class_names, workdir)
                (workdir / "parameters.txt").write_text(table + "\n")
                (workdir / "dataset.json").write_text(json.dumps(provenance, indent=2) + "\n")
                environment.record(workdir, start)

        running_metrics = RunningMeans(metadata.get("running_metrics"))
        sample_grid = make_sample_grid(experiment, source)

        def save(step: int, state: TrainState) -> None:
            entries = {
                "images_seen": images_seen + (step - start) * config.batch_size,
                "data": provenance,
                "ema": ema,
                "running_metrics": running_metrics.saved(),
            }
            checkpoints.save(step, sharding.unshard(state), metadata=entries)

        with Reporter(
            workdir,
            start_step=start,
            steps=config.steps,
            batch_size=config.batch_size,
            begun=begun,
            write=jax.process_index() == 0,
        ) as reporter:
            changes += resume.changes_of_data(metadata, provenance)
            reporter.log(f"Devices: {_describe_devices()}")
            reporter.log(f"Data: {source.description.summary()}")
            if automatic:
                reporter.log(f"Computing in {config.model.dtype} (model.dtype=auto)")
            for line in mirror_note(config):
                reporter.log(line)
            for line in notes + [f"Changed since the last start: {change}" for change in changes]:
                reporter.log(line)
            if start == config.steps:
                reporter.log(f"All {start} steps are done already")
            elif start:
                reporter.log(f"Resuming from the checkpoint of step {start}")
            training = experiment.require_training()
            made = count_updates(state.opt_state)
            rates = learning_rates(training.learning_rate, made + config.steps - start)
            for line in _idle_steps(config, rates[made:]):
                reporter.log(line)
            loop = TrainingLoop(
                training.loop,
                step=parallel_step(experiment, sharding),
                batches=training_batches(config, source, images_seen),
                reporter=reporter,
                running_metrics=running_metrics,
                learning_rates=rates,
                sample_grid=lambda state: sample_grid(sharding.ema_params(state)),
                save=save,
                check_saved=checkpoints.check,
                recover=Rollback(
                    checkpoints,
                    roll_back=config.roll_back,
                    learning_rate=training.learning_rate,
                    shapes=shapes,
                    sharding=sharding,
                    log=reporter.log,
                ),
                interrupted=interrupted,
            )
            return sharding.unshard(loop.run(state))


def _with_dtype(experiment: Experiment) -> Experiment:
    """Records the number type of these devices in the config in place of "auto".

    The network resolves it in the same way, and is not built again.
    """
    if experiment.config.model.get("dtype") != "auto":
        return experiment
    config = experiment.config.copy_and_resolve_references()
    config.model.dtype = dtype_of("auto")
    return replace(experiment, config=config.lock())


def _idle_steps(config: ConfigDict, rates: Float[np.ndarray, "count"]) -> list[str]:
    """Returns a line if the warm-up does not end, and one if steps at the end have a rate of 0.

    rates: of the steps that remain. A hundredth of the run may have a rate that rounds to 0.
    """
    optimizer, lines = config.optimizer, []
    if optimizer.warmup_steps and optimizer.warmup_steps >= config.steps:
        lines.append(
            f"Warning: optimizer.warmup_steps={optimizer.warmup_steps:,} does not end before "
            f"steps={config.steps:,}, so the learning rate is at most {max(rates, default=0):.3g} "
            f"in place of {optimizer.learning_rate:.3g}; give --config.optimizer.warmup_steps=None,"
            " which follows steps"
        )
    used = np.flatnonzero(rates)
    idle = len(rates) - (used[-1] + 1 if len(used) else 0)
    if idle <= config.steps / 100:
        return lines
    which = "all remaining steps" if not len(used) else f"the last {idle:,} steps"
    lines.append(
        f"Warning: the learning rate is 0 in {which}, from step {config.steps - idle + 1:,} to "
        f"{config.steps:,}, which train nothing (optimizer.decay={optimizer.decay}, "
        f"optimizer.decay_steps={optimizer.decay_steps}); give "
        "--config.optimizer.decay_steps=None, which follows steps, or --config.optimizer."
        "decay=constant"
    )
    return lines


def init_train_state(experiment: Experiment) -> TrainState:
    """Returns the train state before the first step."""
    training = experiment.require_training()
    return init_state(
        experiment.model,
        training.optimizer,
        experiment.config.seed,
        experiment.config.data.resolution,
        training.timestep_sampler.init(),
        second_ema=training.second_ema_weight is not None,
    )


def make_sharding(experiment: Experiment) -> Sharding:
    """Returns the sharding of the train state: ZeRO-1 with config.shard_state, or replicated."""
    if not experiment.config.shard_state:
        return Replicated()
    shapes = jax.eval_shape(partial(init_train_state, experiment))
    return Sharded(experiment.require_training().optimizer, shapes)


def parallel_step(
    experiment: Experiment,
    sharding: Sharding,
    devices: Sequence[jax.Device] | None = None,  # pyright: ignore[reportInvalidTypeForm]
) -> Callable[[TrainState, PyTree], tuple[TrainState, Metrics]]:
    """Returns the training step as a `pmap` over all devices; see `parallel.data_parallel`."""
    training = experiment.require_training()
    step = make_train_step(
        training.objective,
        training.optimizer,
        training.timestep_sampler,
        seed=experiment.config.seed,
        micro_batches=training.loop.micro_batches,
        ema_weight=training.ema_weight,
        second_ema_weight=training.second_ema_weight,
        constrain=experiment.model.constrained,
        sharding=sharding,
    )
    return parallel.data_parallel(step, devices, sharding.axes())


def _describe_devices() -> str:
    """Describes the devices in use, such as "16 x NVIDIA H100 in 2 processes"."""
    count = jax.process_count()
    return devices() + (f" in {count} processes" if count > 1 else "")


def _describe_ema(config: ConfigDict, start: int, before: dict[str, Any]) -> dict[str, Any]:
    """Returns the entry "ema" of checkpoint metadata: {"of": name and widths, "since": step}.

    "since" is the step from which the EMA has had this name and these widths.

    before: the entry in the checkpoint of step `start`, or {}.
    """
    options = config.ema.get(config.ema.name, {})
    widths = [options.get("sigma_rel"), options.get("second_sigma_rel")]
    kind = {"name": config.ema.name, "sigma_rels": [width for width in widths if width is not None]}
    return {"of": kind, "since": before["since"] if before.get("of") == kind else start}
