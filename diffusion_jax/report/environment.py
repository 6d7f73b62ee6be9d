"""The machine that writes a report."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from diffusion_jax.workdir import environment


@dataclass(frozen=True)
class Environment:
    """facts: names and values. time: now."""

    facts: Sequence[tuple[str, str]]
    time: datetime


def here() -> Environment:
    return Environment(list(environment.here().items()), datetime.now(UTC))
