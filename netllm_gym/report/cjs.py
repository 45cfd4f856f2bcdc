"""Charts of CJS for a report: one episode over time, and how long its jobs took."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from netllm_gym.envs.cjs.playback import Playback
from netllm_gym.envs.curves import staircase
from netllm_gym.pools.episode import Episode
from netllm_gym.problems.problem import ControlProblem, Problem
from netllm_gym.report.charts import Axis, Chart, cdf_line, fenced, nice_axis
from netllm_gym.report.replay import ControlPictures, Drawing, Key, Panel, Replay, Side

PIECES = 240  # of the time axis, over each of which executors in use are averaged


class CJSPictures(ControlPictures):
    """Executors and jobs of each policy over time, and how long all their jobs took."""

    title = "One episode, played through"
    side_keys = (Key("busy", "executors in use", is_line=False), Key("jobs", "jobs in the system"))

    def open(self, problem: ControlProblem, arguments: Mapping[str, Any]) -> Any:
        """Make the environment, which notes when each task ran; see the base."""
        env = super().open(problem, arguments)
        env.batch.notes_tasks = True
        return env

    def replayable(self, problem: Problem) -> Collection[str]:
        """Return all parts of a case; a table names each that is not the default."""
        return problem.case_options

    def record(self, env: Any, episode: Episode) -> Playback:
        """Return when tasks ran and jobs were complete; see the base."""
        return Playback.of(env.batch)

    def describe(self, case: Any, episode: Any) -> str:
        """Name the recording, or the workload and the seed of its arrivals; see the base."""
        if case.workload.is_recording:
            return f"recording {case.workload.name}"
        seed = int(case.batch.arrival_seeds[0])
        return f"workload {case.workload.name}, arrival seed {seed}"

    def facts(self, side: Side) -> tuple[tuple[str, str], ...]:
        """Return completion times and utilisation; see the base."""
        record: Playback = side.record
        in_use = record.busy().averaged([0.0, record.now_s]).value[0] / record.num_executors
        return (
            ("mean job completion time, s", f"{side.value:.2f}"),
            ("median, s", f"{np.median(record.jct_s):.2f}"),
            ("longest, s", f"{record.jct_s.max():.2f}"),
            ("last completion, s", f"{record.now_s:.1f}"),
            ("executors in use", f"{100.0 * in_use:.1f} %"),
        )

    def draw(self, played: Replay) -> Drawing:
        """Draw executors and jobs of every policy, and the completion times; see the base."""
        end_s = max(side.record.now_s for side in played.sides)
        return Drawing(
            [_panels(side, end_s) for side in played.sides],
            charts=(_distribution(played),),
            note="The axes are the same for both; executors in use are means of "
            f"{end_s / PIECES:.3g} s.{_beyond(played)}",
        )


def _jct_axis(played: Replay) -> Axis:
    times_s = np.concatenate([side.record.jct_s for side in played.sides])
    return nice_axis(0.0, fenced(times_s)[1], about=6)


def _beyond(played: Replay) -> str:
    """Say which jobs the axis of the distribution leaves out."""
    high_s = _jct_axis(played).high
    beyond = [(side.policy, int((side.record.jct_s > high_s).sum())) for side in played.sides]
    parts = [f"{count} of {policy}" for policy, count in beyond if count]
    return f" Jobs that took longer than the axis: {', '.join(parts)}." if parts else ""


def _distribution(played: Replay) -> Chart:
    x, y = _jct_axis(played), nice_axis(0.0, 1.0)
    return Chart(
        title="Distribution of job completion times over the jobs of the episode, a staircase per "
        "policy",
        x=x,
        y=y,
        x_label="completion time of a job, s",
        y_label="share of jobs at or below",
        marks=tuple(cdf_line(side.style, side.record.jct_s, x) for side in played.sides),
        height="middle",
    )


def _panels(side: Side, end_s: float) -> tuple[Panel, Panel]:
    record: Playback = side.record
    pieces = max(1, round(PIECES * record.now_s / end_s))
    busy = record.busy().averaged(np.linspace(0.0, record.now_s, pieces + 1))
    count = record.in_system()
    executors = Panel(
        f"{side.policy}: executors in use over time, of {record.num_executors}",
        y_label="executors in use",
        marks=(staircase("busy", *busy, filled=True),),
        height="middle",
        top=float(record.num_executors),
    )
    jobs = Panel(
        f"{side.policy}: jobs in the system over time, at most {count.value.max():.0f}; "
        f"the last is complete after {record.now_s:.1f} s of {end_s:.1f} s drawn",
        y_label="jobs in the system",
        marks=(staircase("jobs", *count),),
        height="low",
    )
    return executors, jobs
