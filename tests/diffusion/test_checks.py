"""Checks of options."""

import numpy as np
import pytest

from diffusion_jax.diffusion.checks import check_count, check_positive, check_range


@pytest.mark.parametrize("value", [1, 7, np.int64(3)])
def test_whole_numbers_are_counts(value):
    check_count("count", value, 7)


@pytest.mark.parametrize("value", [0, -1, 2.5, 1.0, True, "3", None, float("nan"), 8])
def test_anything_else_is_not(value):
    with pytest.raises(ValueError, match=f"count={value} must be a whole number, from 1 to 7"):
        check_count("count", value, 7)


@pytest.mark.parametrize(
    ("value", "bounds", "wanted"),
    [
        (-1, (0,), "must be at least 0$"),
        (float("inf"), (0,), "must be at least 0, and finite"),
        (2, (0, 1), r"must be in \[0, 1\]$"),
        (float("nan"), (0, 1), r"must be in \[0, 1\], and finite"),
    ],
)
def test_numbers_out_of_range_are_refused(value, bounds, wanted):
    with pytest.raises(ValueError, match=f"eta={value} {wanted}"):
        check_range("eta", value, *bounds)


def test_both_ends_of_a_range_belong_to_it():
    check_range("eta", 0, 0, 1)
    check_range("eta", 1, 0, 1)


def test_zero_is_not_positive():
    with pytest.raises(ValueError, match="gamma=0 must be positive"):
        check_positive(sigma=1.0, gamma=0)
