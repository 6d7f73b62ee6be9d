"""Flags that are paths, or lists of them."""

from pathlib import Path
from typing import Any, cast

from absl import flags

flags.disclaim_key_flags()  # they belong to the script that calls `define`


class PathParser(flags.ArgumentParser):
    """Parser of a path; see `diffusion_jax.files.paths.local_path`."""

    syntactic_help = "a path"

    def parse(self, argument: Any) -> Path:
        from diffusion_jax.files.paths import local_path

        return local_path(argument)


class OneOfSeveral(PathParser):
    """Parser of one path of a flag that may be repeated."""

    def parse(self, argument: Any) -> Path:
        path = super().parse(argument)
        parts = str(argument).split(",")
        if len(parts) > 1 and not path.exists() and all(map(self._exists, parts)):
            raise ValueError(f"repeat the flag for each of these {len(parts)} paths")
        return path

    def _exists(self, part: str) -> bool:
        return bool(part) and super().parse(part).exists()


def define(name: str, default: str | None, about: str) -> flags.FlagHolder[Path | None]:
    """Defines a flag whose value is a Path, or None."""
    return cast(Any, flags.DEFINE(PathParser(), name, default, about))


def define_several(name: str, about: str) -> flags.FlagHolder[list[Path] | None]:
    """Defines a flag that may be repeated, whose value is a list of paths, or None."""
    return cast(
        Any, flags.DEFINE_multi(OneOfSeveral(), flags.ArgumentSerializer(), name, None, about)
    )
