"""VP's part of a report: one window on the plane of headings and elevations, once per predictor."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.data.vp.angles import angle_error_deg, gaze
from netllm_gym.data.vp.viewport import FREQUENCY_HZ, ViewportWindows
from netllm_gym.errors import InputError
from netllm_gym.evaluation.tables import Table
from netllm_gym.problems.index import find_problem
from netllm_gym.problems.problem import PredictionProblem
from netllm_gym.report.charts import Axis, Chart, Mark, line_path, nice_axis
from netllm_gym.report.replay import (
    Key,
    Replay,
    Side,
    View,
    choose_episode,
    load_players,
    naming_the_way_out,
    show,
)


@dataclass(frozen=True)
class PredictedWindow:
    """What one predictor said of a window.

    Attributes:
        history: (H, 2) heading and elevation in degrees; headings go on beyond 180 where the head
            turned past the back, so that a path is one line.
        truth: (F, 2) what came.
        predicted: (F, 2) what was said.
        error_deg: (F,) mean error of roll, pitch and yaw at each future sample.
    """

    history: FloatArray
    truth: FloatArray
    predicted: FloatArray
    error_deg: FloatArray


def play(table: Table, policies: Sequence[str], number: int | None = None) -> Replay:
    """Predict one window of a table's case anew.

    Args:
        table: Names the case, which must be on this machine.
        policies: One or two names or folders of trained predictors.
        number: Of the window; left out, that of the median difference.

    Raises:
        InputError: If a policy or the case is not on this machine, or is not the table's.
    """
    problem = find_problem(table.problem)
    assert isinstance(problem, PredictionProblem), (
        "the report's index says whose pictures these are"
    )
    loaded = load_players(table, policies, problem.case_options)
    with naming_the_way_out():
        windows = problem.make_windows(**problem.case_from_text(table.case))
    predictors = [policy.factory(windows) for policy in loaded]
    names = [predictor.name for predictor in predictors]
    chosen = choose_episode(table, names, number, len(windows))
    one = np.array([chosen.number])
    sides = []
    for predictor, style in zip(predictors, chosen.styles, strict=True):
        predicted = predictor.predict(windows.history_deg(one), windows.content(one))
        if predicted.shape != windows.future_deg(one).shape:
            raise InputError(f"{predictor.name} must predict {windows.config.future} samples")
        record = _record(windows, one, predicted)
        in_table = chosen.in_table.get(predictor.name)
        sides.append(Side(predictor.name, style, float(record.error_deg.mean()), in_table, record))
    return Replay(table.problem, chosen.number, _described(windows, one), chosen.why, tuple(sides))


def view(played: Replay) -> View:
    """Return the paths of all predictors on one plane, and the error of each by horizon."""
    records: list[PredictedWindow] = [side.record for side in played.sides]
    ahead_s = np.arange(1, len(records[0].truth) + 1) / FREQUENCY_HZ
    time = nice_axis(0.0, float(ahead_s[-1]), widen=False)
    error = nice_axis(0.0, max(float(each.error_deg.max()) for each in records), 3)
    seen, came = Key("past", "what was seen"), Key("bound", "what came")
    return show(
        played,
        "One window, predicted",
        _facts,
        [(_errors(side, time, error, ahead_s),) for side in played.sides],
        side_keys=(),
        charts=(_paths(played),),
        chart_keys=(seen, came),
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


def _described(windows: ViewportWindows, one: IntArray) -> str:
    trace = windows.dataset.traces[int(windows.trace[one][0])]
    start_s = (trace.first_sample + int(windows.start[one][0])) / FREQUENCY_HZ
    return f"person {trace.user} watching video {trace.video}, from {start_s:.1f} s on"


def _facts(side: Side) -> tuple[tuple[str, str], ...]:
    record: PredictedWindow = side.record
    return (
        ("mae, degrees", f"{side.value:.3f}"),
        ("after 1 s", f"{record.error_deg[min(FREQUENCY_HZ, len(record.truth)) - 1]:.3f}"),
        ("at the end", f"{record.error_deg[-1]:.3f}"),
    )


def _paths(played: Replay) -> Chart:
    first: PredictedWindow = played.sides[0].record
    # A path begins where the history ends.
    ways = [np.concatenate([first.history[-1:], first.truth])]
    ways += [np.concatenate([first.history[-1:], side.record.predicted]) for side in played.sides]
    everything = np.concatenate([first.history, *ways])
    x, y = (nice_axis(float(places.min()), float(places.max()), 6) for places in everything.T)
    styles = ["bound", *(side.style for side in played.sides)]
    marks = [Mark("line", "past", line_path(x, y, *first.history.T))]
    marks += [
        Mark("line", f"{style} way", line_path(x, y, *way.T))  # a way of no length is a dot
        for style, way in zip(styles, ways, strict=True)
    ]
    return Chart(
        title="Paths of the viewport's centre: what was seen, what came, and what was predicted",
        x=x,
        y=y,
        x_label="heading, degrees",
        y_label="elevation, degrees",
        marks=tuple(marks),
        height="tall",
    )


def _errors(side: Side, time: Axis, error: Axis, ahead_s: FloatArray) -> Chart:
    record: PredictedWindow = side.record
    return Chart(
        title=f"{side.policy}: error at each future sample, {record.error_deg[-1]:.1f} degrees at "
        "the end",
        x=time,
        y=error,
        x_label="seconds ahead",
        y_label="error, degrees",
        marks=(Mark("line", side.style, line_path(time, error, ahead_s, record.error_deg)),),
        height="low",
    )
