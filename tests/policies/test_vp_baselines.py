"""Formulas that predict viewports: sums by hand, NetLLM's slow loop, its numbers, and laws."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from netllm_gym.data.vp.angles import angle_error_deg
from netllm_gym.data.vp.viewport import WindowConfig
from netllm_gym.evaluation.evaluate import evaluate
from netllm_gym.policies.baselines.vp import (
    DampedVelocity,
    HoldLast,
    LinearRegression,
    LinearRegressionUnwrapped,
    Velocity,
    VelocityUnwrapped,
)

TASK = SimpleNamespace(config=WindowConfig(history=4, future=3))
RULES = (
    HoldLast,
    DampedVelocity,
    Velocity,
    LinearRegression,
    VelocityUnwrapped,
    LinearRegressionUnwrapped,
)
histories = arrays(np.float64, (5, 4, 3), elements=st.floats(-180, 180))


def one_channel(*yaw):
    """Return (1, H, 3) with a yaw, and roll and pitch still."""
    return np.stack([np.zeros(len(yaw)), np.full(len(yaw), 7.0), yaw], axis=1)[None]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (HoldLast, [4, 4, 4]),
        # The last change is 2; then 1, 0.5, 0.25.
        (DampedVelocity, [5, 5.5, 5.75]),
        # (4 - 0) / 3 a sample.
        (Velocity, [4 + 4 / 3, 4 + 8 / 3, 8]),
        # Mean 1.5 at the middle; slope (-1.5*0 - .5*0 + .5*2 + 1.5*4) / 5 = 1.4; 2.5 on: 1.5 + 3.5.
        (LinearRegression, [1.5 + 1.4 * 2.5, 1.5 + 1.4 * 3.5, 1.5 + 1.4 * 4.5]),
    ],
)
def test_by_hand(rule, expected):
    predicted = rule(TASK).predict(one_channel(0.0, 0.0, 2.0, 4.0), None)
    np.testing.assert_allclose(predicted[0, :, 2], expected)
    np.testing.assert_allclose(predicted[0, :, 1], 7.0)


def test_across_the_border_the_published_rules_jump_and_the_unwrapped_go_on():
    history = one_channel(170.0, 175.0, -180.0, -175.0)
    damped = DampedVelocity(TASK).predict(history, None)[0, :, 2]
    assert angle_error_deg(damped, [-172.5, -171.25, -170.625]).max() < 1e-9
    for rule in (VelocityUnwrapped, LinearRegressionUnwrapped):
        yaw = rule(TASK).predict(history, None)[0, :, 2]
        assert angle_error_deg(yaw, [-170.0, -165.0, -160.0]).max() < 1e-9
    # -345 / 3 a sample.
    np.testing.assert_allclose(Velocity(TASK).predict(history, None)[0, 0, 2], -175 - 115)


@given(histories)
def test_one_fit_is_netllms_loop_of_fits(history):
    """NetLLM predicts one sample, appends it, and fits anew from the shifted history on."""
    points = list(history.transpose(1, 0, 2))  # samples of (5, 3)
    for _ in range(3):
        time_s = np.arange(len(points))
        fit = np.polynomial.polynomial.polyfit(time_s, np.stack(points).reshape(len(points), -1), 1)
        points.append((fit[0] + fit[1] * len(points)).reshape(5, 3))
    predicted = LinearRegression(TASK).predict(history, None)
    np.testing.assert_allclose(predicted, np.stack(points[4:], axis=1), atol=1e-6)


@pytest.mark.parametrize(
    "rule", [HoldLast, DampedVelocity, VelocityUnwrapped, LinearRegressionUnwrapped]
)
@given(histories, st.floats(-720, 720))
def test_turning_every_yaw_turns_the_prediction(rule, history, turn):
    # Steps near half a turn have no short way round; below it the law is exact.
    history = 0.45 * history
    turned = history + np.array([0.0, 0.0, turn])
    wrapped = (turned + 180.0) % 360.0 - 180.0
    wrapped[..., :2] = history[..., :2]
    expected = rule(TASK).predict(history, None) + np.array([0.0, 0.0, turn])
    assert angle_error_deg(rule(TASK).predict(wrapped, None), expected).max() < 1e-6


@pytest.mark.parametrize("rule", RULES)
def test_a_head_that_stands_still_is_predicted_to_stand_still(rule):
    history = np.tile([3.0, -20.0, 180.0], (2, 4, 1))
    np.testing.assert_allclose(rule(TASK).predict(history, None), history[:, :3])


NAMES = ("hold_last", "velocity", "linear_regression")


@pytest.mark.parametrize(("tail", "protocol"), [(60, "code_default_trim"), (30, "paper_trim")])
@pytest.mark.parametrize("data", ["Jin2022", "Wu2017"])
@pytest.mark.parametrize(("history", "future"), [(10, 20), (20, 30)])
def test_the_references_numbers(viewport_data, data, history, future, tail, protocol):
    reference = json.loads((viewport_data / "../reference/vp/reference.json").read_text())
    expected = reference["protocols"][f"{protocol}_30_{tail}"][data][f"{history}_{future}"]
    table = evaluate(
        "vp",
        NAMES,
        {
            "dataset": f"{data.lower()}-test",
            "history": history,
            "future": future,
            "trim_tail": tail,
        },
    )
    for row in table.rows:
        known = expected[row.policy]
        assert row.n == known["n_samples"]
        assert row.components["mae_published_deg"] == pytest.approx(known["mae"], abs=1e-3)
        if "mae_full_modulo" in known:
            assert row.mean == pytest.approx(known["mae_full_modulo"], abs=1e-3)
        if row.policy == "hold_last":
            assert row.by_step == pytest.approx(known["mae_per_step"], abs=1e-3)
            assert row.components["rmse_deg"] == pytest.approx(known["rmse_wrapped"], abs=1e-3)
