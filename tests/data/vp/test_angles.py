"""Angles: sums by hand, laws of the errors, and scipy's own conversions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from netllm_gym.data.vp.angles import (
    EULER_ORDERS,
    angle_error_deg,
    angles_of,
    great_circle_deg,
    in_range_deg,
    matrices,
    of_quaternions,
    published_error_deg,
    wrapped_deg,
)
from netllm_gym.errors import InputError

degrees = st.floats(-1e4, 1e4, allow_nan=False)
heads = arrays(np.float64, (7, 3), elements=st.floats(-179, 179))


def test_errors_go_the_short_way_round():
    # 179 and -179 are 2 apart; 10 and 730 are the same; 400 is 40, 140 from 180.
    error = angle_error_deg([179.0, 10.0, 400.0], [-179.0, 730.0, 180.0])
    np.testing.assert_allclose(error, [2.0, 0.0, 140.0])


def test_the_published_error_takes_one_turn_back_and_no_more():
    # 358 apart is 2 by a turn; 720 apart is still 360; 550 apart is 190, above 180.
    error = published_error_deg([179.0, 730.0, 560.0], [-179.0, 10.0, 10.0])
    np.testing.assert_allclose(error, [2.0, 360.0, 190.0])


@given(degrees, degrees)
def test_the_error_is_symmetric_and_at_most_180_and_zero_only_at_equality(one, other):
    error = float(angle_error_deg(one, other))
    assert error == pytest.approx(float(angle_error_deg(other, one)), abs=1e-9)
    assert 0.0 <= error <= 180.0
    turns = (one - other) / 360.0
    same = abs(turns - round(turns)) * 360.0
    assert error == pytest.approx(same, abs=1e-6)


@given(degrees, degrees)
def test_the_published_error_is_never_less_and_equal_within_a_turn(one, other):
    published, error = float(published_error_deg(one, other)), float(angle_error_deg(one, other))
    assert published >= error - 1e-9
    if abs(one - other) <= 540.0:
        assert published == pytest.approx(error, abs=1e-9)


@pytest.mark.parametrize("order", EULER_ORDERS)
def test_angles_and_quaternions_are_scipys(order):
    rotation = pytest.importorskip("scipy.spatial.transform").Rotation
    quaternions = np.random.default_rng(0).normal(size=(500, 4))
    angles = of_quaternions(quaternions, order)  # roll, pitch, yaw
    # scipy gives the angles in the order in which the sequence names the axes.
    theirs = rotation.from_quat(quaternions).as_euler(order.upper(), degrees=True)
    ours = angles if order == "zxy" else angles[:, ::-1]
    assert np.abs(wrapped_deg(ours - theirs)).max() < 1e-9
    np.testing.assert_allclose(
        matrices(angles, order), rotation.from_quat(quaternions).as_matrix(), atol=1e-12
    )


def test_the_two_orders_differ_where_the_head_faces_sideways():
    # The head faces right (yaw 90) and looks 20 up: in "zxy" that shows as roll, as in NetLLM's.
    usual = np.array([0.0, -20.0, 90.0])
    other = angles_of(matrices(usual, "yxz"), "zxy")
    np.testing.assert_allclose(other, [20.0, 0.0, 90.0], atol=1e-9)


@given(heads, heads)
def test_great_circle_is_that_of_the_directions_whatever_the_order(one, other):
    error = great_circle_deg(one, other, "yxz")
    assert ((error >= 0) & (error <= 180)).all()
    in_zxy = [angles_of(matrices(each, "yxz"), "zxy") for each in (one, other)]
    np.testing.assert_allclose(great_circle_deg(*in_zxy, "zxy"), error, atol=1e-4)


def test_great_circle_by_hand():
    # On the equator it is the difference of the headings; near a pole headings mean little.
    level = great_circle_deg([[5.0, 0.0, 170.0]], [[0.0, 0.0, -170.0]], "yxz")
    steep = great_circle_deg([[0.0, -89.0, 0.0]], [[0.0, -89.0, 180.0]], "yxz")
    np.testing.assert_allclose([level[0], steep[0]], [20.0, 2.0])


@given(arrays(np.float64, (5, 3), elements=st.floats(-1000, 1000)))
def test_angles_brought_into_range_are_the_same_orientations(angles):
    within = in_range_deg(angles)
    assert (np.abs(within) <= [180.0, 90.0, 180.0]).all()
    for order in EULER_ORDERS:
        np.testing.assert_allclose(matrices(within, order), matrices(angles, order), atol=1e-9)


def test_an_order_that_there_is_not_is_refused():
    with pytest.raises(InputError, match="euler_order must be one of zxy, yxz, got 'xyz'"):
        matrices([0.0, 0.0, 0.0], "xyz")
