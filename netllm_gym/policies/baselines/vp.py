"""Formulas that predict viewports from their history; nothing is learned.

`velocity` and `linear_regression` are those of NetLLM (SIGCOMM 2024). They extrapolate the angles
without regard to their range: a yaw that passes from 180 to -180 degrees looks like a jump of 360,
and a prediction may be many turns away. The `_unwrapped` ones are the same formulas after such
jumps are removed. `hold_last` and `damped_velocity` are baselines that NetLLM does not have.
"""

from typing import Any

import numpy as np

from netllm_gym.arrays import Float32Array, FloatArray


class ViewportRule:
    """A formula that implements the protocol `Predictor`; windows say how many samples to give."""

    name: str

    def __init__(self, windows: Any) -> None:
        self.future = np.arange(1, windows.config.future + 1, dtype=np.float64)  # (F,) samples on

    def predict(self, history: FloatArray, content: Float32Array | None) -> FloatArray:
        """Return (N, F, 3) angles; see the protocol."""
        raise NotImplementedError


class HoldLast(ViewportRule):
    """The head stays where it is."""

    name = "hold_last"

    def predict(self, history: FloatArray, content: Float32Array | None) -> FloatArray:
        """Return the last sample for every future sample."""
        return np.repeat(history[:, -1:], len(self.future), axis=1)


class DampedVelocity(ViewportRule):
    """The head slows down: it continues by half of its last change, then by a quarter, ...

    One half is the best of 0.3, 0.5, 0.6, 0.7 and 0.8 on jin2022-valid.
    """

    name = "damped_velocity"

    def predict(self, history: FloatArray, content: Float32Array | None) -> FloatArray:
        """Return the last sample plus the changes up to each future sample."""
        change = (history[:, -1:] - history[:, -2:-1] + 180.0) % 360.0 - 180.0  # (N, 1, 3)
        ahead = 1.0 - 0.5**self.future  # (F,) 0.5, 0.75, ... changes
        return np.asarray(history[:, -1:] + change * ahead[:, None], np.float64)


class Velocity(ViewportRule):
    """The head continues at the mean speed of its history."""

    name = "velocity"

    def predict(self, history: FloatArray, content: Float32Array | None) -> FloatArray:
        """Return the last sample plus once, twice, ... the mean change."""
        speed = (history[:, -1:] - history[:, :1]) / (history.shape[1] - 1)  # (N, 1, 3)
        return np.asarray(history[:, -1:] + speed * self.future[:, None], np.float64)


class LinearRegression(ViewportRule):
    """The head continues along the line of least squares through its history.

    NetLLM predicts one sample, adds it to the history and fits again. An added point is on the line
    and does not change it, so one fit gives the same result.
    """

    name = "linear_regression"

    def predict(self, history: FloatArray, content: Float32Array | None) -> FloatArray:
        """Return the line's next points."""
        time = np.arange(history.shape[1]) - (history.shape[1] - 1) / 2  # (H,) of mean 0
        slope = np.einsum("h,nhc->nc", time, history)[:, None] / (time @ time)  # (N, 1, 3)
        ahead = self.future[:, None] + time[-1]  # (F, 1)
        return np.asarray(history.mean(axis=1, keepdims=True) + slope * ahead, np.float64)


class VelocityUnwrapped(Velocity):
    """Velocity on angles without jumps."""

    name = "velocity_unwrapped"

    def predict(self, history: FloatArray, content: Float32Array | None) -> FloatArray:
        """Return the last sample plus once, twice, ... the mean change."""
        return super().predict(np.unwrap(history, axis=1, period=360.0), content)


class LinearRegressionUnwrapped(LinearRegression):
    """Linear regression on angles without jumps."""

    name = "linear_regression_unwrapped"

    def predict(self, history: FloatArray, content: Float32Array | None) -> FloatArray:
        """Return the line's next points."""
        return super().predict(np.unwrap(history, axis=1, period=360.0), content)
