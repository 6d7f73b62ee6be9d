"""Entry point of the scripts: flags and commands, error lines, exit codes and JAX's set-up."""

import contextlib
import gc
import itertools
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from absl import app, flags
from absl import logging as absl_logging

from scripts.cli import errors, help, processes, terminal
from scripts.cli.errors import ROOT

QUIET = ("orbax", "jax", "tensorflow_datasets", "matplotlib")
HELP = {"--help", "-h", "-help", "-?", "--helpfull", "--helpshort"}

# The flags of each command, or of each way to use it: "evaluate --workdir", "evaluate --images".
Commands = Mapping[str, Sequence[flags.FlagHolder]]


def run(main: Callable[..., int | None], commands: Commands | None = None) -> None:
    """Parses the flags, calls main, and exits with its result.

    A mistake in the flags, or an error that our own code raises, is reported in one line.

    Args:
        main: gets the command, if there are commands.
        commands: their flags. The first argument must be the first word of one of them, and flags
            of other commands are refused. Names that begin with -- are distinguished by flags
            instead; main calls `check_flags` for these.
    """
    commands = commands or {}
    _add_commands_to_help(commands)
    terminal.make_plain()
    if not sys.stderr.isatty():  # progress bars in the log of a cluster
        os.environ.setdefault("TQDM_MININTERVAL", "10")
    # Traced programs are millions of objects that stay; looking through them for cycles at the
    # usual rate takes a quarter of the time to trace a training step.
    gc.set_threshold(100_000, 50, 50)

    def call(argv: list[str]) -> None:
        with processes.ending_together():
            sys.exit(_call(partial(main, *argv[1:])))

    app.run(call, flags_parser=partial(_parse, commands=commands))


def check_flags(command: str, commands: Commands) -> None:
    """Raises ValueError for a flag that was given but belongs only to other commands.

    command: a key of `commands`, or its first word. Flags in no entry, such as --coordinator, are
    always accepted. --config stands for --config.FIELD as well.
    """
    for flag in itertools.chain(*commands.values()):
        takers = [name for name, holders in commands.items() if _has(holders, flag)]
        if " " not in command:
            takers = list(dict.fromkeys(name.split()[0] for name in takers))
        if flag.present and command not in takers:
            others = " and ".join(f"`{name}`" for name in takers)
            raise ValueError(f"--{flag.name} belongs to {others}; `{command}` does not take it")


def progress(items: Iterable, unit: str) -> Iterable:
    """Wraps the items in a progress bar, shown by process 0."""
    import jax
    from tqdm import tqdm

    return tqdm(items, unit=unit, disable=jax.process_index() > 0)


@contextlib.contextmanager
def image_bar(count: int, done: int) -> Iterator[Callable[[int], Any]]:
    """Yields the function that advances a progress bar of images, shown by process 0."""
    import jax
    from tqdm import tqdm

    hidden = jax.process_index() > 0
    with tqdm(total=count, initial=done, unit="image", disable=hidden) as bar:
        yield bar.update


def _has(holders: Sequence[flags.FlagHolder], flag: flags.FlagHolder) -> bool:
    return flag.name in {holder.name for holder in holders}  # holders cannot be compared


def _add_commands_to_help(commands: Commands) -> None:
    for flag in {flag.name: flag for flag in itertools.chain(*commands.values())}.values():
        takers = []
        for command, names in itertools.groupby(commands, lambda name: name.split()[0]):
            ways = list(names)
            taking = [name for name in ways if _has(commands[name], flag)]
            takers += [command] if taking == ways else taking
        entry = flags.FLAGS[flag.name]
        entry.help = f"({', '.join(takers)}) {entry.help}"


def _parse(argv: list[str], commands: Commands) -> list[str]:
    if HELP & set(argv[1:]):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends the script quietly
        about = sys.modules["__main__"].__doc__ or ""
        print(help.text(about, argv[0], ROOT / "configs" / "base.py"))
        sys.exit(0)
    names = dict.fromkeys(name.split()[0] for name in commands if not name.startswith("-"))
    try:
        rest = flags.FLAGS(argv)
        if names and (len(rest) < 2 or rest[1] not in names):
            given = repr(rest[1]) if len(rest) > 1 else "nothing"
            raise ValueError(f"Unknown command {given}; known commands: {', '.join(names)}")
        wanted = 2 if names else 1
        if len(rest) > wanted:
            raise ValueError(f"Unexpected argument {rest[wanted]!r}; options begin with --")
        if names:
            check_flags(rest[1], commands)
    except (flags.Error, ValueError, OSError) as error:
        errors.fail(errors.with_known_flag(error))
    return rest


def _call(main: Callable[[], int | None]) -> int:
    _hide_log_messages()
    try:
        from diffusion_jax.files import compilation_cache

        compilation_cache.enable()
        processes.connect()
        return main() or 0
    except KeyboardInterrupt as interrupt:
        print("\nInterrupted", *interrupt.args, sep="; ", end=".\n", file=sys.stderr)
        return 130
    except OSError as error:
        errors.fail(errors.with_fix(error))
    except (ValueError, FloatingPointError) as error:
        if not errors.raised_by_us(error):
            raise
        errors.fail(error)


def _hide_log_messages() -> None:
    """Hides the libraries' messages below warnings, and all of Orbax's.

    Orbax logs dozens of lines per checkpoint, and hundreds when a save fails, which is an error.
    """

    def wanted(record: logging.LogRecord) -> bool:
        ours = not any(f"/{name}/" in record.pathname for name in QUIET)
        loud = record.levelno >= logging.WARNING and "/orbax/" not in record.pathname
        return ours or loud

    absl_logging.get_absl_handler().addFilter(wanted)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # abandoned tasks of Orbax
