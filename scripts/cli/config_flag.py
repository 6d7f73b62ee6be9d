"""The flag --config, a config by name or path, and --config.FIELD=VALUE for its fields."""

import re
import sys
import traceback
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags import tuple_parser


def define(about: str, default: str | None = None) -> flags.FlagHolder:
    """Defines --config. Fields that can be switched off take None: --config.keep_every=None."""
    for kind, parser in {
        int: _OrNone(flags.IntegerParser()),
        float: _OrNone(flags.FloatParser()),
        str: _OrNone(flags.ArgumentParser()),
        tuple: _Tuple(),
    }.items():
        config_flags.register_flag_parser_for_type(kind, parser)
    holder = config_flags.DEFINE_config_file("config", None, about)
    flags.FLAGS["config"].parser = _Config()
    if default is not None:
        flags.set_default(holder, default)
    return holder


def value(example: str) -> ConfigDict:
    """Returns the config that --config names. Raises ValueError if the flag is missing."""
    config = flags.FLAGS["config"].value
    if config is None:
        raise ValueError(f"--config is missing; for example: --config {example}")
    return config


def with_config_of_workdir(argv: list[str]) -> list[str]:
    """Adds the config of the run in --workdir to the arguments if --config is missing."""
    workdir = Path(value_of("workdir", argv) or "").expanduser()
    if value_of("config", argv) is None and (workdir / "config.json").is_file():
        return [argv[0], f"--config=of_workdir:{workdir}", *argv[1:]]
    return argv


def value_of(flag: str, argv: list[str]) -> str | None:
    """Returns --flag=VALUE or --flag VALUE before flags are parsed; None if it is missing."""
    for argument, following in zip(argv, [*argv[1:], ""]):
        name, equals, text = argument.lstrip("-").partition("=")
        if argument.startswith("-") and name == flag:
            return text if equals else following
    return None


class _OrNone(flags.ArgumentParser):
    """Parser of values that may be None."""

    def __init__(self, parser: flags.ArgumentParser):
        self._parser = parser
        self.syntactic_help = parser.syntactic_help

    def parse(self, argument: Any) -> Any:
        return None if argument in (None, "None") else self._parser.parse(argument)


class _Tuple(tuple_parser.TupleParser):
    """Parser of tuples such as 64,32; None is the empty one."""

    def parse(self, argument: Any) -> tuple:
        return () if argument in (None, "None") else super().parse(argument)


class _Config(flags.ArgumentParser):
    """Parser of the name or path of a config."""

    syntactic_help = "name or path of a config"

    def parse(self, argument: str) -> ConfigDict:
        from diffusion_jax.config import named_configs

        try:
            config = named_configs.get_config(argument)
        except (OSError, ValueError):
            raise
        except Exception as error:  # the file's code may raise anything
            path = named_configs.path_of(argument.partition(":")[0])
            message = error.msg if isinstance(error, SyntaxError) else error
            line = _line_of(error, path)
            raise ValueError(f"{line}{type(error).__name__}: {message}") from error
        if not isinstance(config, ConfigDict):
            raise ValueError(
                f"get_config returned a value of type {type(config).__name__}, and a ConfigDict "
                "was expected; begin with configs.base.get_config()"
            )
        _check_fields(config)
        return config.lock()


def _line_of(error: Exception, path: Path) -> str:
    """Returns the line of the config's file that raised the error, if it did."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: " if error.lineno else ""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
    return f"line {lines[-1]}: " if lines else ""


def _check_fields(config: ConfigDict) -> None:
    """Raises ValueError for --config.FIELD if the config has no such field."""
    from diffusion_jax.config.other_names import guess
    from diffusion_jax.config.schema import flatten

    known = flatten(config)
    for argument in sys.argv:
        given = re.match(r"--?(?:no)?config\.([^=]+)", argument)
        if given and given[1] not in known:
            hint = guess(given[1], [f"config.{name}" for name in known]) or ";"
            raise ValueError(
                f"there is no config.{given[1]}{hint} --dry_run shows the fields of this config"
            )
