"""Shared by the scripts: flags and commands, one line for each mistake, and JAX's set-up."""

import contextlib
import importlib.util
import itertools
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from absl import app, flags

from scripts.cli import errors, help, processes, terminal

ROOT = Path(__file__).resolve().parents[2]
QUIET = ("orbax", "jax", "tensorflow_datasets", "matplotlib")

# The flags of each command, or of each way to use it: "evaluate --workdir", "evaluate --images".
Commands = Mapping[str, Sequence[flags.FlagHolder]]

_COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "For several machines: HOST:PORT of process 0, with --num_processes and --process_id; or "
    "'auto' under SLURM, Open MPI, Kubernetes or on Cloud TPU, where all three are detected.",
)
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "Number of processes, one per machine."
)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Index of this process, from 0.")


def run(main: Callable[..., int | None], commands: Commands | None = None) -> None:
    """Parses the flags and calls main(), whose result is the exit code.

    commands: the first argument must be the first word of one of them; main gets it. Flags that
    belong only to other commands are refused. Names that begin with -- are told apart by flags
    instead of a first argument; main calls `check_flags` for these. Mistakes of the user, in the
    flags or raised as errors by our own code, are reported in one line.
    """
    commands = commands or {}
    _describe(commands)
    terminal.make_plain()
    if not sys.stderr.isatty():  # progress bars in the log of a cluster: not ten lines a second
        os.environ.setdefault("TQDM_MININTERVAL", "10")

    def call(argv: list[str]) -> None:
        with processes.ending_together():
            sys.exit(_call(partial(main, *argv[1:]), argv))

    app.run(call, flags_parser=partial(_parse, commands=commands))


def check_flags(command: str, commands: Commands) -> None:
    """Raises ValueError for a flag that was given but belongs only to other commands.

    command: a key of `commands`, or its first word. Flags in no entry, such as --coordinator, are
    always accepted. --config stands for --config.FIELD as well, which cannot be given without it.
    """
    for flag in itertools.chain(*commands.values()):
        takers = [name for name, holders in commands.items() if _has(holders, flag)]
        if " " not in command:
            takers = list(dict.fromkeys(name.split()[0] for name in takers))
        if flag.present and command not in takers:
            others = " and ".join(f"`{name}`" for name in takers)
            raise ValueError(f"--{flag.name} belongs to {others}; `{command}` does not take it")


def with_config_of_workdir(argv: list[str]) -> list[str]:
    """The arguments, with the config of the run in --workdir added if --config is missing."""
    workdir = value_of("workdir", argv)
    if value_of("config", argv) is None and workdir and (Path(workdir) / "config.json").is_file():
        return [argv[0], f"--config={ROOT / 'configs' / 'of_workdir.py'}:{workdir}", *argv[1:]]
    return argv


def with_config_by_name(argv: list[str]) -> list[str]:
    """The arguments, with the path of our config in place of its name: --config digits.

    Also for configs/digits.py in a folder that has no such file.
    """
    given = value_of("config", argv)
    name, colon, argument = (given or "").partition(":")
    ours = ROOT / "configs" / f"{Path(name).stem}.py"
    if not name or Path(name).is_file() or not ours.is_file():
        return argv
    if Path(name).parent not in (Path(), Path("configs")) or Path(name).suffix not in ("", ".py"):
        return argv
    path = f"{ours}{colon}{argument}"
    at = next(i for i, text in enumerate(argv) if text.lstrip("-").partition("=")[0] == "config")
    if "=" in argv[at]:
        return [*argv[:at], f"--config={path}", *argv[at + 1 :]]
    return [*argv[:at], "--config", path, *argv[at + 2 :]]


def value_of(flag: str, argv: list[str]) -> str | None:
    """The value of a flag before flags are parsed: --flag VALUE or --flag=VALUE; None without."""
    for argument, following in zip(argv, [*argv[1:], ""]):
        name, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == flag:
            return value if equals else following
    return None


def progress(items: Iterable, unit: str) -> Iterable:
    """The items, with a progress bar in process 0."""
    import jax
    from tqdm import tqdm

    return tqdm(items, unit=unit, disable=jax.process_index() > 0)


@contextlib.contextmanager
def image_bar(count: int, done: int) -> Iterator[Callable[[int], Any]]:
    """A progress bar of images in process 0, of which some are done; yields what advances it."""
    import jax
    from tqdm import tqdm

    hidden = jax.process_index() > 0
    with tqdm(total=count, initial=done, unit="image", disable=hidden) as bar:
        yield bar.update


def _has(holders: Sequence[flags.FlagHolder], flag: flags.FlagHolder) -> bool:
    return flag.name in {holder.name for holder in holders}  # holders cannot be compared


def _describe(commands: Commands) -> None:
    """Says in the help of each flag which commands take it."""
    for flag in {flag.name: flag for flag in itertools.chain(*commands.values())}.values():
        takers = []
        for command, names in itertools.groupby(commands, lambda name: name.split()[0]):
            ways = list(names)
            taking = [name for name in ways if _has(commands[name], flag)]
            takers += [command] if taking == ways else taking
        entry = flags.FLAGS[flag.name]
        entry.help = f"({', '.join(takers)}) {entry.help}"


def _parse(argv: list[str], commands: Commands) -> list[str]:
    if {"--help", "-h", "-help", "--helpfull", "--helpshort"} & set(argv[1:]):
        about = sys.modules["__main__"].__doc__ or ""
        with contextlib.suppress(BrokenPipeError):  # of `| head`
            print(help.text(about, argv[0], ROOT / "configs" / "base.py"), flush=True)
        os._exit(0)
    argv = with_config_by_name(argv)
    try:
        rest = flags.FLAGS(argv)
    except Exception as error:  # the code of a config may raise anything
        config = (value_of("config", argv) or "").partition(":")[0]
        _fail(errors.explained(error, argv, config))
    names = dict.fromkeys(name.split()[0] for name in commands if not name.startswith("-"))
    if names and (len(rest) < 2 or rest[1] not in names):
        given = repr(rest[1]) if len(rest) > 1 else "nothing"
        _fail(ValueError(f"{given} was given, one of these was expected: {', '.join(names)}"))
    wanted = 2 if names else 1
    if len(rest) > wanted:
        _fail(ValueError(f"Unexpected argument {rest[wanted]!r}; options begin with --"))
    if names:
        try:
            check_flags(rest[1], commands)
        except ValueError as error:
            _fail(error)
    return rest


def _call(main: Callable[[], int | None], argv: list[str]) -> int:
    _be_quiet()
    try:
        _set_up_jax()
        return main() or 0
    except KeyboardInterrupt as interrupt:
        print("\nInterrupted", *interrupt.args, sep="; ", end=".\n", file=sys.stderr)
        return 130
    except OSError as error:
        _fail(errors.of_system(error))
    except (ValueError, FloatingPointError) as error:
        if not _raised_by_us(error):
            raise
        _fail(error)


def _fail(error: Exception) -> None:
    text = error.args[0] if isinstance(error, KeyError) and error.args else str(error)
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    # Text from untrusted files must not contain control characters for the terminal.
    line = "".join(char if char.isprintable() else "?" for char in " ".join(lines))
    print("Error: " + line[:2000], file=sys.stderr)
    sys.exit(1)


def _raised_by_us(error: Exception) -> bool:
    """Whether the error was raised by this project's code rather than by a library."""
    origin = Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve()
    library = Path(importlib.util.find_spec("diffusion_jax").origin).resolve().parent
    ours = (library, ROOT / "scripts", ROOT / "benchmarks")
    return any(origin.is_relative_to(folder) for folder in ours)


def _be_quiet() -> None:
    """Hides the libraries' log messages below warnings: dozens of lines per checkpoint.

    And all of Orbax's: of a save that fails, which is an error in one line, it prints hundreds.
    """
    from absl import logging as absl_logging

    def wanted(record: logging.LogRecord) -> bool:
        ours = not any(f"/{name}/" in record.pathname for name in QUIET)
        loud = record.levelno >= logging.WARNING and "/orbax/" not in record.pathname
        return ours or loud

    absl_logging.get_absl_handler().addFilter(wanted)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # tasks that nobody asks any more


def _set_up_jax() -> None:
    """Connects the processes, if there are several, and enables the compilation cache."""
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
        processes.connect()
    elif _COORDINATOR.value is not None:
        processes.connect(
            coordinator_address=_COORDINATOR.value,
            num_processes=_NUM_PROCESSES.value,
            process_id=_PROCESS_ID.value,
        )
