"""The long forms: python -m pytest -n 0 -s -m long tests/reliability"""

import pytest

from reliability import flips, kills, signals

pytestmark = pytest.mark.long


def test_random_flips():
    """Half a minute."""
    assert flips.main(200) == (200, [])


def test_random_kills():
    """5 minutes on two cores that others use, too."""
    assert kills.main(30) == 0


def test_random_signals():
    """5 minutes on two cores that others use, too."""
    assert signals.main(20) == 0
