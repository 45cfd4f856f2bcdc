"""Head orientations as angles: what a difference is, and how two Euler orders are converted.

An orientation is roll, pitch and yaw in degrees, in this order. Two sequences of rotations give the
three their meaning, x to the right, y up, z ahead:

- "yxz", the usual one: R = Ry(yaw) Rx(pitch) Rz(roll). Yaw is the heading.
- "zxy", that of NetLLM's files (SIGCOMM 2024): R = Rz(roll) Rx(pitch) Ry(yaw). Where the head faces
  sideways, looking up or down shows as roll.
"""

import numpy as np
from numpy.typing import ArrayLike

from netllm_gym.arrays import FloatArray
from netllm_gym.errors import InputError

EULER_ORDERS = ("zxy", "yxz")
ROLL, PITCH, YAW = range(3)
VERTICAL = 1e-7  # cosine of a pitch below which roll and yaw cannot be told apart


def check_order(order: str) -> None:
    """Refuse an Euler order that there is not."""
    if order not in EULER_ORDERS:
        raise InputError(f"euler_order must be one of {', '.join(EULER_ORDERS)}, got {order!r}")


def wrapped_deg(angles_deg: ArrayLike) -> FloatArray:
    """Return the same angles in [-180, 180)."""
    return np.asarray((np.asarray(angles_deg, np.float64) + 180.0) % 360.0 - 180.0, np.float64)


def angle_error_deg(predicted_deg: ArrayLike, true_deg: ArrayLike) -> FloatArray:
    """Return how far apart angles are, the short way round: 0 to 180, whatever turns they count.

    The one error of MAE and RMSE alike.
    """
    return np.abs(wrapped_deg(np.asarray(predicted_deg, np.float64) - np.asarray(true_deg)))


def published_error_deg(predicted_deg: ArrayLike, true_deg: ArrayLike) -> FloatArray:
    """Return NetLLM's error: it takes one turn back, so what is farther off counts above 180."""
    apart = np.asarray(predicted_deg, np.float64) - np.asarray(true_deg)
    turns = np.array([-360.0, 0.0, 360.0])
    return np.asarray(np.abs(apart[..., None] + turns).min(axis=-1), np.float64)


def great_circle_deg(predicted_deg: ArrayLike, true_deg: ArrayLike, order: str) -> FloatArray:
    """Return the angle (...) between the directions that two heads (..., 3) face, 0 to 180.

    Roll about the line of sight changes it only as far as the order of the rotations makes it.
    """
    apart = gaze(predicted_deg, order) - gaze(true_deg, order)
    half_chord = 0.5 * np.linalg.norm(apart, axis=-1)
    return np.asarray(np.rad2deg(2.0 * np.arcsin(np.minimum(half_chord, 1.0))), np.float64)


def gaze(angles_deg: ArrayLike, order: str) -> FloatArray:
    """Return the direction (..., 3) that a head (..., 3) faces: x to the right, y up, z ahead."""
    ahead: FloatArray = matrices(angles_deg, order)[..., :, 2]
    return ahead


def matrices(angles_deg: ArrayLike, order: str) -> FloatArray:
    """Return the rotations (..., 3, 3) of orientations (..., 3)."""
    check_order(order)
    angles = np.deg2rad(np.asarray(angles_deg, np.float64))
    roll = _about(2, angles[..., ROLL])
    pitch = _about(0, angles[..., PITCH])
    yaw = _about(1, angles[..., YAW])
    return np.asarray(roll @ pitch @ yaw if order == "zxy" else yaw @ pitch @ roll, np.float64)


def angles_of(rotations: FloatArray, order: str) -> FloatArray:
    """Return the orientations (..., 3) of rotations (..., 3, 3), pitch in [-90, 90].

    At the vertical, where roll and yaw turn about one axis, the first of the two in `order`'s
    sequence has it all.
    """
    check_order(order)
    r = rotations
    sine, inner, outer = (
        (r[..., 2, 1], (-r[..., 2, 0], r[..., 2, 2]), (-r[..., 0, 1], r[..., 1, 1]))
        if order == "zxy"
        else (-r[..., 1, 2], (r[..., 1, 0], r[..., 1, 1]), (r[..., 0, 2], r[..., 2, 2]))
    )
    cosine = np.hypot(*inner)
    locked = cosine < VERTICAL
    at_lock = r[..., 1, 0] if order == "zxy" else -r[..., 2, 0]
    first = np.where(locked, np.arctan2(at_lock, r[..., 0, 0]), np.arctan2(*outer))
    last = np.where(locked, 0.0, np.arctan2(*inner))
    roll, yaw = (first, last) if order == "zxy" else (last, first)
    angles = np.stack([roll, np.arctan2(sine, cosine), yaw], axis=-1)
    return np.asarray(np.rad2deg(angles), np.float64)


def of_quaternions(quaternions: ArrayLike, order: str) -> FloatArray:
    """Return the orientations (..., 3) of quaternions (..., 4): x, y, z, w, of any length but 0."""
    whole = np.asarray(quaternions, np.float64)
    x, y, z, w = np.moveaxis(whole / np.linalg.norm(whole, axis=-1, keepdims=True), -1, 0)
    rotations = np.stack(
        [
            *(1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
            *(2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
            *(2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
        ],
        axis=-1,
    ).reshape(*whole.shape[:-1], 3, 3)
    return angles_of(rotations, order)


def in_range_deg(angles_deg: FloatArray) -> FloatArray:
    """Return the same orientations (..., 3), roll and yaw in [-180, 180), pitch in [-90, 90].

    A head that is tilted past the vertical is one that has turned round and leans the other way.
    """
    angles = wrapped_deg(angles_deg)
    past = np.abs(angles[..., PITCH]) > 90.0  # (...)
    flipped = wrapped_deg(angles * np.array([1.0, -1.0, 1.0]) + 180.0)
    return np.where(past[..., None], flipped, angles)


def _about(axis: int, angle: FloatArray) -> FloatArray:
    """Return rotations (..., 3, 3) by angles (...) in radians about an axis."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    rotation = np.zeros((*angle.shape, 3, 3))
    rotation[..., axis, axis] = 1.0
    rotation[..., first, first] = rotation[..., second, second] = np.cos(angle)
    rotation[..., second, first] = np.sin(angle)
    rotation[..., first, second] = -np.sin(angle)
    return rotation
