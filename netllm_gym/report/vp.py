"""Charts of VP for a report: headings and elevations in one window, for each predictor."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.data.vp.angles import angle_error_deg, gaze
from netllm_gym.data.vp.viewport import FREQUENCY_HZ, ViewportWindows
from netllm_gym.envs.curves import line
from netllm_gym.errors import InputError
from netllm_gym.problems.problem import PredictionProblem, Problem
from netllm_gym.report.charts import Chart, nice_axis
from netllm_gym.report.replay import Drawing, Key, Panel, Pictures, Replay, Side


@dataclass(frozen=True)
class PredictedWindow:
    """One window as one predictor predicted it: headings and elevations in degrees.

    Headings exceed 180 where the head turned past the back, so that a path is one line.
    """

    history: FloatArray  # (H, 2)
    truth: FloatArray  # (F, 2)
    predicted: FloatArray  # (F, 2)
    error_deg: FloatArray  # (F,) mean of roll, pitch and yaw at each future sample


class VPPictures(Pictures):
    """Paths of all predictors on one plane, and the error of each by horizon."""

    title = "One window, predicted"
    chart_keys = (Key("past", "what was seen"), Key("bound", "what came"))

    def replayable(self, problem: Problem) -> Collection[str]:
        """Return all parts of a case: they define its windows exactly."""
        return problem.case_options

    def open(self, problem: PredictionProblem, arguments: Mapping[str, Any]) -> ViewportWindows:
        """Make the windows of a case; see the base."""
        windows: ViewportWindows = problem.make_windows(**arguments)
        return windows

    def episodes(self, case: ViewportWindows, at_least: int) -> Sequence[int]:
        """Return the numbers of all windows; see the base."""
        return range(len(case))

    def play_one(
        self, problem: Problem, case: ViewportWindows, policy: Any, episode: int
    ) -> tuple[float, PredictedWindow]:
        """Predict one window; see the base."""
        one = np.array([episode])
        predicted = policy.predict(case.history_deg(one), case.content(one))
        if predicted.shape != case.future_deg(one).shape:
            raise InputError(f"{policy.name} must predict {case.config.future} samples")
        record = _record(case, one, predicted)
        return float(record.error_deg.mean()), record

    def describe(self, case: ViewportWindows, episode: int) -> str:
        """Name person, video and time; see the base."""
        trace = case.dataset.traces[int(case.trace[episode])]
        start_s = (trace.first_sample + int(case.start[episode])) / FREQUENCY_HZ
        return f"person {trace.user} watching video {trace.video}, from {start_s:.1f} s on"

    def facts(self, side: Side) -> tuple[tuple[str, str], ...]:
        """Return the mean error, and the errors after a second and at the end; see the base."""
        record: PredictedWindow = side.record
        return (
            ("mae, degrees", f"{side.value:.3f}"),
            ("after 1 s", f"{record.error_deg[min(FREQUENCY_HZ, len(record.truth)) - 1]:.3f}"),
            ("at the end", f"{record.error_deg[-1]:.3f}"),
        )

    def draw(self, played: Replay) -> Drawing:
        """Draw the paths of all predictors, and the error of each by horizon; see the base."""
        return Drawing(
            [(_errors(side),) for side in played.sides],
            x_label="seconds ahead",
            charts=(_paths(played),),
            note="Headings are counted from the video's front, and go on beyond 180 where the head "
            "turned past the back; every path begins at the last viewport that was seen.",
        )


def _record(windows: ViewportWindows, one: IntArray, predicted: FloatArray) -> PredictedWindow:
    order = windows.dataset.euler_order
    history, truth = windows.history_deg(one), windows.future_deg(one)
    whole = _plane(np.concatenate([history, truth], axis=1)[0], order)
    seen, came = whole[: history.shape[1]], whole[history.shape[1] :]
    said = _plane(np.concatenate([history[:, -1:], predicted], axis=1)[0], order)
    # Whole turns apart where the history itself went round.
    said[:, 0] += seen[-1, 0] - said[0, 0]
    error = angle_error_deg(predicted, truth)[0].mean(axis=1)
    return PredictedWindow(seen, came, said[1:], error)


def _plane(angles_deg: FloatArray, order: str) -> FloatArray:
    """Return (T, 2) heading, unwrapped, and elevation of (T, 3) angles."""
    right, up, ahead = np.moveaxis(gaze(angles_deg, order), -1, 0)
    heading = np.unwrap(np.rad2deg(np.arctan2(right, ahead)), period=360.0)
    return np.stack([heading, np.rad2deg(np.arcsin(np.clip(up, -1.0, 1.0)))], axis=1)


def _paths(played: Replay) -> Chart:
    first: PredictedWindow = played.sides[0].record
    # A path begins where the history ends.
    ways = [np.concatenate([first.history[-1:], first.truth])]
    ways += [np.concatenate([first.history[-1:], side.record.predicted]) for side in played.sides]
    everything = np.concatenate([first.history, *ways])
    x, y = (nice_axis(float(places.min()), float(places.max()), 6) for places in everything.T)
    styles = ["bound", *(side.style for side in played.sides)]
    marks = [line("past", *first.history.T)]
    marks += [line(f"{style} way", *way.T) for style, way in zip(styles, ways, strict=True)]
    return Chart(
        title="Paths of the viewport's centre: what was seen, what came, and what was predicted",
        x=x,
        y=y,
        x_label="heading, degrees",
        y_label="elevation, degrees",
        marks=tuple(marks),
        height="tall",
    )


def _errors(side: Side) -> Panel:
    error_deg = side.record.error_deg
    ahead_s = np.arange(1, len(error_deg) + 1) / FREQUENCY_HZ
    return Panel(
        f"{side.policy}: error at each future sample, {error_deg[-1]:.1f} degrees at the end",
        y_label="error, degrees",
        marks=(line(side.style, ahead_s, error_deg),),
        height="low",
    )
