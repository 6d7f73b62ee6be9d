"""The machine and the time at which a report is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from diffusion_jax.workdir import environment


@dataclass(frozen=True)
class Environment:
    """The environment that a report was written in. facts: (name, value) pairs."""

    facts: Sequence[tuple[str, str]]
    time: datetime


def here() -> Environment:
    """Returns the environment of this process."""
    return Environment(list(environment.here().items()), datetime.now(UTC))
