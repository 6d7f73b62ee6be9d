"""The long forms: python -m pytest -n 0 -s -m long tests/reliability"""

import os

import pytest

from reliability import flips, full_disk, fuzzing_files, kills, signals

pytestmark = pytest.mark.long


def test_random_flips():
    """4 minutes on two cores that others use, too."""
    assert flips.main(200) == (200, [])


def test_random_damage_to_files():
    """2 minutes on two cores that others use, too."""
    assert fuzzing_files.main(300)[1] == []


def test_random_kills():
    """5 minutes on two cores that others use, too."""
    assert kills.main(30) == 0


def test_random_signals():
    """5 minutes on two cores that others use, too."""
    assert signals.main(20) == 0


def test_random_early_signals():
    """5 minutes on two cores that others use, too."""
    assert signals.early(40) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_fill_levels_of_a_small_disk():
    """7 minutes on two cores that others use, too."""
    assert full_disk.main() == 0
