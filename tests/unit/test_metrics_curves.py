"""Curves: means of runs of points, from which nothing that advice needs is lost."""

import math

import numpy as np
import pytest

from services.metrics.history import Curve


def test_whatever_the_width_the_mean_and_the_highest_are_those_of_all_points() -> None:
    values = np.random.default_rng(1).gamma(1, 50, 1003)
    for width in (1, 2, 7, 1000, 5000):
        curve = Curve.of(range(1003), values, width)
        assert curve.mean_after(-1) == pytest.approx(values.mean())
        assert (curve.points_after(-1), curve.highest, curve.broken) == (1003, values.max(), None)
        assert curve.steps[-1] == 1002
        two = Curve.joined([curve, Curve.of(range(7), [1.0] * 7, width)])
        assert two.mean_within(-1, 5000) == pytest.approx((values.sum() + 7) / 1010)


def test_a_value_that_is_no_number_is_told_with_its_step_and_spoils_no_mean() -> None:
    values = [1.0, math.inf, 3.0, math.nan, math.nan, math.nan]
    curve = Curve.of(range(10, 16), values, width=3)
    assert curve.values[0] == 2.0
    assert math.isnan(curve.values[1])
    assert (curve.broken, curve.highest, curve.mean_after(0), curve.points_after(0)) == ((11, math.inf), 3.0, 2.0, 2)
    assert math.isnan(curve.mean_after(12))


def test_a_series_without_points_is_a_curve_without_runs() -> None:
    curve = Curve.of([], [], width=3)
    assert (len(curve.steps), curve.highest, curve.broken) == (0, -math.inf, None)
    assert math.isnan(curve.mean_after(0))
