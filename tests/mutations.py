"""Changes the code in one place at a time, and shows whether a test notices.

    python tests/mutations.py [--only WORD] [--out tests/mutations.md]

Each change is made in a copy of the repository, where the tests named with it are run until one
fails. The exit code is 1 if a change survives. All take about 40 minutes on two cores; the table of
--out is written after each of them.
"""

import argparse
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("configs", "diffusion_jax", "scripts", "tests", "docs", "benchmarks", "pyproject.toml")
LONGEST = 600  # seconds that the tests of a change may take


@dataclass(frozen=True)
class Mutation:
    """old becomes new in a file, where it occurs once. tests: files, or what pytest is given."""

    file: str
    old: str
    new: str
    tests: str


def of(file: str, *changes: tuple[str, str, str]) -> list[Mutation]:
    return [Mutation(f"diffusion_jax/{file}.py", *change) for change in changes]


STEP = "tests/training/test_training_step.py"
DEVICES = "tests/training/test_devices.py -k 8-1-1"
MUTATIONS = [
    *of(
        "training/step",
        ("lambda x: x / parts, total", "lambda x: x, total", STEP),
        ("jax.random.fold_in(root, state.step)", "jax.random.fold_in(root, 0)", STEP),
        ('keys.derive(seed, "train")', 'keys.derive(seed, "sample")', STEP),
        ("parallel.global_rows(", "jnp.arange(", STEP),
        (
            "replace(state, step=new.step)",
            "state",
            "tests/training/test_checkpoint_errors.py -k skipped",
        ),
        (
            "parts = {name: drawn.importance * values",
            "parts = {name: values",
            STEP,
        ),
        (
            'timesteps.update(state.history, observed["position"]',
            'timesteps.update(state.history, observed["position"] + 1',
            "tests/diffusion/test_timestep_samplers.py",
        ),
    ),
    *of(
        "training/sharding",
        ("return parallel.mean(gradients)", "return gradients", STEP),
        ("parallel.total(optax.tree.norm(gradients, squared=True))", "1", DEVICES),
        ("return parallel.split_mean(gradients)", "return parallel.split(gradients)", DEVICES),
    ),
    *of(
        "parallel",
        (
            "psum_scatter(_rows(jnp, x, devices), AXIS) / devices",
            "psum_scatter(_rows(jnp, x, devices), AXIS)",
            DEVICES,
        ),
    ),
    *of(
        "models/transposed",
        ("return taps, (-shift,", "return taps, (shift,", "tests/models/test_layers.py -k phases"),
    ),
    *of(
        "training/objectives",
        (
            "noise = keys.normal(for_noise, x0.shape[1:])",
            "noise = keys.normal(for_level, x0.shape[1:])",
            STEP,
        ),
        (
            'drawn.keys, batch["label"], label_dropout',
            'drawn.keys, batch["label"], 1 - label_dropout',
            STEP,
        ),
        (
            'drop_labels(drawn.keys, batch["label"],',
            'drop_labels(drawn.keys, batch["label"][::-1],',
            STEP,
        ),
        ("label_dropout, model.num_classes)", "label_dropout, model.num_classes - 1)", STEP),
        (
            "next = schedule.after(drawn.position)",
            "next = schedule.after(jnp.maximum(drawn.position - 1, 1))",
            STEP,
        ),
    ),
    *of(
        "diffusion/keys",
        (
            "jax.random.fold_in, (None, 0))(key, examples)",
            "jax.random.fold_in, (None, 0))(key, examples // 2)",
            STEP,
        ),
        ("(None, 0))(key, examples)", "(None, 0))(key, examples % 4)", STEP),
    ),
    *of(
        "training/averages",
        ("lambda ema, new: ema + (1 - decay)", "lambda ema, new: ema + decay", STEP),
        ("short = (1 + step", "short = (2 + step", STEP),
        (
            "(1 - 1 / (step.astype(jnp.float32) + 1))",
            "(1 - 1 / (step + 2))",
            "tests/training/test_train.py",
        ),
    ),
    *of(
        "training/state",
        ("averages.update(before, params, ", "averages.update(before, state.params, ", STEP),
        ("average(state.step)),", "average(state.step + 1)),", STEP),
        ("second(state.step))", "second(state.step + 1))", STEP),
        (
            'path[-1].key.startswith("fixed_")',
            'path[-1].key.startswith("nothing_")',
            "tests/models/test_edm_networks.py tests/models/test_adm.py",
        ),
    ),
    *of(
        "training/optimizers",
        ("_clip(clip_norm) if", "_clip(2 * clip_norm) if", STEP),
        ("weight_decay=weight_decay)", "weight_decay=0.0)", STEP),
        (
            "optax.linear_schedule(0.0, learning_rate, warmup_steps)",
            "optax.linear_schedule(0.0, learning_rate, warmup_steps + 1)",
            STEP,
        ),
    ),
    *of(
        "training/loop",
        (
            "number % config.log_every == 0",
            "number % config.log_every == 1",
            "tests/training/test_train.py",
        ),
        (
            "number % config.checkpoint_every == 0",
            "number % config.checkpoint_every == 1",
            "tests/training/test_train.py",
        ),
        (
            "first = int(state.step) + 1",
            "first = int(state.step)",
            "tests/training/test_train.py",
        ),
    ),
    *of(
        "training/checkpoints",
        ("max_to_keep=keep_latest", "max_to_keep=None", "tests/training/test_train.py -k newest"),
        ("step_name_format=_Names(),", "", "tests/training/test_checkpoint_errors.py -k whatever"),
        (
            'name = "ema_params" if ema else "params"',
            'name = "params"',
            "tests/training/test_train.py -k averaged",
        ),
        (
            "if known and (changed := known.first_changed(found)):",
            "if known and (changed := None):",
            "tests/training/test_checkpoint_errors.py",
        ),
        (
            "if known and not known.has_about(about):",
            "if False:",
            "tests/training/test_checkpoint_errors.py",
        ),
        (
            "if spoiled := first_not_finite(items):",
            "if spoiled := None:",
            "tests/training/test_checkpoint_errors.py",
        ),
    ),
    *of(
        "training/fallback",
        (
            "MAY_PASS = {errno.EIO, ",
            "MAY_PASS = {",
            "tests/training/test_checkpoint_errors.py -k disk",
        ),
        (
            "in (errno.EACCES, errno.EPERM)",
            "in ()",
            "tests/training/test_checkpoint_errors.py -k may_not",
        ),
    ),
    *of(
        "models/attention",
        ("(whole[None] + mixed)", "(mixed)", "tests/models/test_unet.py -k class_attention"),
        ('"bcd,co->bdo"', '"bdc,co->bdo"', "tests/models/test_unet.py -k class_attention"),
    ),
    *of(
        "data/pipeline",
        (
            "own = slice(process_index * rows, (process_index + 1) * rows)",
            "own = slice(0, rows)",
            "tests/data/test_pipeline.py",
        ),
        (
            "permutation[max(first - start, 0) :",
            "permutation[max(first - start, 1) :",
            "tests/data/test_pipeline.py",
        ),
        (
            "default_rng([self.seed, epoch])",
            "default_rng([self.seed, 0])",
            "tests/data/test_pipeline.py",
        ),
        (
            'batch["image"][mirrored][:, :, ::-1]',
            'batch["image"][mirrored][:, ::-1]',
            "tests/data/test_pipeline.py",
        ),
        (
            "default_rng([seed, epoch, index, 1])",
            "default_rng([seed, index, 1])",
            "tests/data/test_folder.py",
        ),
    ),
    *of(
        "data/crops",
        (
            "(image.height - side) // 2",
            "(image.height - side + 1) // 2",
            "tests/data/test_folder.py",
        ),
        (
            "round(image.height * scale)",
            "int(image.height * scale)",
            "tests/data/test_folder.py",
        ),
    ),
    *of(
        "data/imagenet",
        ("transpose(0, 2, 3, 1)", "transpose(0, 3, 2, 1)", "tests/data/test_imagenet.py"),
        ("    return labels - 1", "    return labels", "tests/data/test_imagenet.py"),
    ),
    *of(
        "images",
        ("/ 127.5 - 1", "/ 128 - 1", f"tests/test_images.py {STEP}"),
    ),
    *of(
        "diffusion/losses",
        ("x0 > p.mean, ndtr(-lower)", "x0 > p.mean, ndtr(lower)", "tests/diffusion/test_losses.py"),
        ("-jnp.log(jnp.maximum(mass, 1e-12))", "-jnp.log(mass)", "tests/diffusion/test_losses.py"),
        (
            "return 0.5 * (jnp.exp(difference) - 1 - difference + squared_distance)",
            "return 0.5 * (jnp.exp(difference) - 1 + difference + squared_distance)",
            "tests/diffusion/test_losses.py",
        ),
        ("if loss.bound_trains_mean else stop_mean(prediction)", "", STEP),
    ),
    *of(
        "diffusion/discrete",
        ("noise=np.sqrt(self.one_minus_alphas_bar)", "noise=self.one_minus_alphas_bar", STEP),
        ("randint(key, (), 1, self.num_steps + 1)", "randint(key, (), 1, self.num_steps)", STEP),
        ("_cosine(np.arange(num_steps + 1)", "_cosine(np.arange(1, num_steps + 2)", STEP),
    ),
    *of(
        "diffusion/timesteps",
        (
            "* (1 - uniform_part) + uniform_part / count",
            "",
            "tests/diffusion/test_timestep_samplers.py",
        ),
        ("(count * p[index])", "p[index]", "tests/diffusion/test_timestep_samplers.py"),
    ),
    *of(
        "diffusion/guidance",
        (
            "good + guidance_scale * (good - bad)",
            "good + guidance_scale * bad",
            "tests/diffusion/test_guidance.py",
        ),
        (
            "(low < sigma) & (sigma <= high)",
            "(low <= sigma) & (sigma < high)",
            "tests/diffusion/test_guidance_variants.py",
        ),
        (
            "phi * (factor - 1) * v / size",
            "phi * (factor - 1) * v",
            "tests/diffusion/test_guidance_variants.py",
        ),
        (
            "denoiser(x * (own.noise / noise), own, condition)",
            "denoiser(x, own, condition)",
            "tests/diffusion/test_guidance_variants.py",
        ),
    ),
    *of(
        "sampling/ddim",
        (
            "jnp.where(variance > 0, jnp.exp(0.5 * log_variance), 0.0)",
            "jnp.exp(0.5 * log_variance)",
            "tests/sampling/test_exact_gaussian.py tests/sampling/test_diffusers_solvers.py",
        ),
        (
            "(1 - eta**2) * jnp.square",
            "(1 - eta) * jnp.square",
            "tests/sampling/test_exact_gaussian.py",
        ),
    ),
    *of(
        "sampling/loop",
        (
            "random_keys.at_step(keys, count)",
            "random_keys.at_step(keys, 1)",
            "tests/sampling/test_exact_gaussian.py",
        ),
        (
            "starting_noise(keys, shape) * path.start_std",
            "starting_noise(keys, shape)",
            "tests/sampling/test_solvers.py -k deviation",
        ),
    ),
    *of(
        "sampling/heun",
        (
            "jnp.asarray(next.noise) > 0",
            "jnp.asarray(next.noise) >= 0",
            "tests/sampling/test_solvers.py",
        ),
    ),
    *of(
        "sampling/multistep",
        ("nodes[-1] - arrived", "nodes[-1] + arrived", "tests/sampling/test_multistep_solvers.py"),
        (
            "or arrived == 0",
            "",
            "tests/sampling/test_multistep_solvers.py tests/sampling/test_editing.py",
        ),
    ),
    *of(
        "evaluation/moments",
        (
            "self.scatter / (self.count - 1)",
            "self.scatter / self.count",
            "tests/evaluation/test_fid.py tests/evaluation/test_metrics.py",
        ),
        (
            "self.count * other.count / count)",
            "self.count * other.count)",
            "tests/evaluation/test_fid.py",
        ),
        ("- 2 * trace)", "- trace)", "tests/evaluation/test_metrics.py"),
    ),
    *of(
        "evaluation/scores",
        ("/ (size * (size - 1))", "/ (size * size)", "tests/evaluation/test_metrics.py"),
        (
            "block[:, neighbours] for block",
            "block[:, neighbours - 1] for block",
            "tests/evaluation/test_metrics.py",
        ),
        ("block <= radii", "block < radii", "tests/evaluation/test_metrics.py"),
    ),
    *of(
        "runs/recovery",
        (
            "|= {newest, int(restored.step)}",
            "|= {newest}",
            "tests/training/test_checkpoint_errors.py -k goes_back_further",
        ),
        (
            "restore_newest(self._checkpoints",
            "(lambda c, x: (c.restore(newest, x), {}, []))(self._checkpoints",
            "tests/training/test_checkpoint_errors.py -k goes_back_further",
        ),
    ),
    *of(
        "runs/continuing",
        ('glob("*/params")', 'glob("*/")', "tests/workdir/test_resume.py"),
        ("if done > config.steps:", "if done >= config.steps:", "tests/workdir/test_resume.py"),
    ),
    *of(
        "runs/labels",
        (
            "np.full(count or DEFAULT_COUNT, num_classes, np.int32)",
            "np.full(count or DEFAULT_COUNT, 0, np.int32)",
            "tests/scripts/test_scripts.py -k label",
        ),
        (
            "np.arange(count) * len(chosen) // count",
            "np.arange(count) % len(chosen)",
            "tests/scripts/test_scripts.py -k label",
        ),
    ),
    *of(
        "runs/generator",
        (
            'batch["index"] = index + start',
            'batch["index"] = index',
            "tests/generation/test_sampler.py -k later",
        ),
    ),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="changes whose file or text has this")
    parser.add_argument("--out", type=Path, help="a Markdown table of what was found")
    chosen = parser.parse_args()
    mutations = [m for m in MUTATIONS if chosen.only in f"{m.file} {m.old}"]
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "copy"
        for name in COPIED:
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, _made(copy) / name)
        try:
            for result in results(copy, mutations):
                found.append(result)
                print(f"{result.seconds:.0f} s", *result.cells(), sep="  ", flush=True)
                if chosen.out:
                    _replace(chosen.out, table(found, len(mutations)))
        except KeyboardInterrupt:
            print(_count(found))
            return 130
    print(_count(found))
    return int(not all(result.noticed_by for result in found))


@dataclass(frozen=True)
class Result:
    """What came of a change. noticed_by: a test that failed; "" if none did."""

    mutation: Mutation
    noticed_by: str
    seconds: float

    def cells(self) -> tuple[str, str, str]:
        """File, change, test."""
        change = f"{_code(self.mutation.old)} → {_code(self.mutation.new) or 'nothing'}"
        return self.mutation.file, change, self.noticed_by or "**SURVIVED**"


def results(copy: Path, mutations: list[Mutation]) -> Iterator[Result]:
    """Of each change; the copy is as it was after each."""
    for mutation in mutations:
        path = copy / mutation.file
        text = path.read_text()
        if text.count(mutation.old) != 1:
            raise ValueError(
                f"{mutation.file} has {mutation.old!r} {text.count(mutation.old)} times"
            )
        path.write_text(text.replace(mutation.old, mutation.new))
        begin = time.monotonic()
        noticed_by = failing_test(copy, mutation.tests.split())
        path.write_text(text)
        yield Result(mutation, noticed_by, time.monotonic() - begin)


def table(found: list[Result], count: int) -> str:
    """A page with a row for each result. count: of all changes that are to be tried."""
    names = ("jax", "flax", "optax", "orbax-checkpoint", "numpy", "pytest")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    lines = [
        "# Changes to the code that tests notice",
        "",
        f"{date.today()}, {count} changes of `tests/mutations.py`, each with the tests that it "
        "names.",
        f"Python {platform.python_version()}, {versions}.",
        "",
        "| file | change | noticed by | seconds |",
        "|---|---|---|---|",
    ]
    for result in found:
        cells = " | ".join(cell.replace("|", "\\|") for cell in result.cells())
        lines.append(f"| {cells} | {result.seconds:.0f} |")
    return "\n".join([*lines, "", _count(found), ""])


def _count(found: list[Result]) -> str:
    return f"tried {len(found)}, noticed {sum(bool(result.noticed_by) for result in found)}"


def _code(text: str) -> str:
    text = " ".join(text.split())
    return f"`{text}`" if text else ""


def failing_test(copy: Path, tests: list[str]) -> str:
    """The first test that fails; "" if none does."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-q", "--no-header", "-rfE", *tests]
    try:
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=LONGEST)
    except subprocess.TimeoutExpired:
        return f"no end after {LONGEST} s"
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest ended with {done.returncode}: {done.stdout[-2000:]}")
    if not done.returncode:
        return ""
    failed = re.search(r"^(?:FAILED|ERROR) (.*?)(?: - .*)?$", done.stdout, re.MULTILINE)
    return failed[1] if failed else "a test that was not named"


def _replace(path: Path, text: str) -> None:
    """Whenever it is stopped, the file is a whole one."""
    partial = path.with_name(f"{path.name}.tmp")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
