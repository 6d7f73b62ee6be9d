"""What the scripts share: flags, one clear line for a mistake, and JAX's set-up."""

import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from absl import app, flags
from ml_collections import ConfigDict, config_flags

ROOT = Path(__file__).resolve().parent.parent
QUIET = ("orbax", "jax", "tensorflow_datasets")

_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "Several machines: HOST:PORT of the first process, with --num_processes and --process_id; or "
    "'auto' under SLURM, Open MPI, Kubernetes or on Cloud TPU, which tell the rest by themselves.",
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes, one a machine.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")


def run(main: Callable[..., int | None], commands: Sequence[str] = ()) -> None:
    """Parses the flags and calls main(), whose result is the exit code.

    commands: what the first argument may be, if it is not a flag; main gets it. A mistake of the
    user's, in the flags or raised by our own code, is reported in one line.
    """

    sys.stdout.reconfigure(errors="backslashreplace")  # for names of files that are no text

    def call(argv: list[str]) -> None:
        sys.exit(_call(partial(main, *argv[1:]), argv))

    app.run(call, flags_parser=partial(_parse, commands=commands))


def with_config_of_workdir(argv: list[str]) -> list[str]:
    """The arguments, with the config of the run in --workdir added where --config is missing."""
    options = [argument.lstrip("-") for argument in argv]
    if any(option == "config" or option.startswith("config=") for option in options):
        return argv
    for option, value in zip(options, [*argv[1:], ""]):
        name, equals, workdir = option.partition("=")
        workdir = workdir if equals else value
        if name == "workdir" and (Path(workdir) / "config.json").is_file():
            return [argv[0], f"--config={ROOT / 'configs' / 'of_workdir.py'}:{workdir}", *argv[1:]]
    return argv


def config_of(flag: str, example: str) -> ConfigDict:
    """The config that the flag names. Raises if it names none, or a file that is not there."""
    config = flags.FLAGS[flag].value
    if config is None:
        raise ValueError(f"--{flag} is missing; for example: --{flag} {example}")
    try:
        config.keys()
    except OSError:
        name = config_flags.get_config_filename(flags.FLAGS[flag])
        raise FileNotFoundError(f"--{flag}={name}: there is no such file") from None
    return config


def progress(items: Iterable, unit: str, *, show: bool = True) -> Iterable:
    """The items, with a progress bar."""
    from tqdm import tqdm

    return tqdm(items, unit=unit, disable=not show)


def _parse(argv: list[str], commands: Sequence[str]) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        # A mistake found by a config's own code comes with the traceback in its text.
        flag, _, trace = str(error).partition(": Error whilst parsing config file:")
        _fail(ValueError(f"{flag}: {trace.strip().splitlines()[-1]}") if trace else error)
    if commands and (len(rest) < 2 or rest[1] not in commands):
        given = repr(rest[1]) if len(rest) > 1 else "nothing"
        _fail(ValueError(f"{given} was given, one of these was expected: {', '.join(commands)}"))
    wanted = 2 if commands else 1
    if len(rest) > wanted:
        _fail(ValueError(f"Unexpected argument {rest[wanted]!r}; options begin with --"))
    return rest


def _call(main: Callable[[], int | None], argv: list[str]) -> int:
    _be_quiet()
    try:
        _set_up_jax()
        return main() or 0
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    except OSError as error:
        _fail(error)
    except (ValueError, FloatingPointError) as error:
        if not _raised_by_us(error):
            raise
        _fail(error)


def _fail(error: Exception) -> None:
    text = error.args[0] if isinstance(error, KeyError) and error.args else str(error)
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    # What an untrusted file says must not steer the terminal.
    line = "".join(char if char.isprintable() else "?" for char in " ".join(lines))
    print("Error: " + line[:2000], file=sys.stderr)
    sys.exit(1)


def _raised_by_us(error: Exception) -> bool:
    """Whether the raise statement is in this project, not in a library that it called."""
    origin = Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve()
    return any(
        origin.is_relative_to(ROOT / part) for part in ("diffusion_jax", "scripts", "benchmarks")
    )


def _be_quiet() -> None:
    """Libraries log dozens of lines a checkpoint; of theirs, only warnings are shown."""
    from absl import logging as absl_logging

    def wanted(record: logging.LogRecord) -> bool:
        ours = not any(f"/{name}/" in record.pathname for name in QUIET)
        return ours or record.levelno >= logging.WARNING

    absl_logging.get_absl_handler().addFilter(wanted)


def _set_up_jax() -> None:
    """Joins several machines, if asked to; keeps compiled programs, for a faster second start."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(base / "diffusion_jax" / "compiled"))
    given = [flag.value is not None for flag in (_COORDINATOR, _NUM_PROCESSES, _PROCESS_ID)]
    if any(given) and not all(given) and _COORDINATOR.value != "auto":
        raise ValueError(
            "--coordinator=HOST:PORT, --num_processes and --process_id belong together; give all "
            "three, or --coordinator=auto"
        )
    if _COORDINATOR.value == "auto":
        jax.distributed.initialize()
    elif _COORDINATOR.value is not None:
        jax.distributed.initialize(
            coordinator_address=_COORDINATOR.value,
            num_processes=_NUM_PROCESSES.value,
            process_id=_PROCESS_ID.value,
        )
