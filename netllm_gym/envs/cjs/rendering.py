"""`CJSEnv.render`: a cluster as it is now as a few lines of text, or its last minutes drawn."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from netllm_gym.envs.cjs.batch import ClusterBatch
from netllm_gym.envs.cjs.playback import Playback
from netllm_gym.envs.curves import staircase
from netllm_gym.envs.drawing import (
    BLUE,
    DARK_GREY,
    GREEN,
    MORE_COLOURS,
    ORANGE,
    RED,
    TwoPanels,
)

LISTED = 12  # jobs in a text, the oldest
SHOWN_S = 600.0  # of the time before now, in a picture
JOB_COLOURS = (BLUE, ORANGE, GREEN, RED, *MORE_COLOURS)  # of a job, by its number


def cluster_text(batch: ClusterBatch, row: int = 0) -> str:
    """Return what a cluster does now: two lines, and a table of the jobs in the system."""
    state, stages = batch.state.rows[row], batch.state.stages[row]
    executors, jobs = batch.state.executors[row], batch.job_records(row)
    active = batch.state.active[row][: state["num_active"]].tolist()
    busy = np.count_nonzero(executors["busy"])
    is_moving = (executors["pool"] < 0) & ~executors["busy"]
    moving = np.count_nonzero(is_moving)
    # A moving executor has no job yet, but the stage that it moves to has one.
    serves = np.where(is_moving, stages["job"][executors["stage"]], executors["job"])
    lines = [
        f"workload {batch.workload.name}, {state['now_ms'] / 1000.0:.1f} s: {len(active)} jobs in "
        f"the system, {state['num_completed']} of {state['num_jobs']} complete",
        f"executors: {busy} busy, {moving} moving, {len(executors) - busy - moving} idle; "
        f"{batch.view().committable[row]} to commit",
    ]
    names = [batch.workload.template_names[jobs[number]["template"]] for number in active[:LISTED]]
    width = max([len("template"), *(len(name) for name in names)])
    if active:
        lines.append(f" job  {'template':{width}}   age, s  stages done  tasks left  executors")
    for number, name in zip(active, names, strict=False):
        job = jobs[number]
        own = stages[job["first_stage"] : job["first_stage"] + job["num_stages"]]
        age_s = (state["now_ms"] - job["arrival_ms"]) / 1000.0
        done = f"{job['num_stages'] - job['num_incomplete']} of {job['num_stages']}"
        left = (own["num_tasks"] - own["completed"]).sum()  # tasks that are not complete
        have = np.count_nonzero(serves == number)  # run its tasks, move to it or idle for it
        lines.append(f"{number:4}  {name:{width}}  {age_s:7.1f}  {done:>11}  {left:10}  {have:9}")
    if len(active) > LISTED:
        lines.append(f"and {len(active) - LISTED} younger jobs")
    return "\n".join(lines)


class Painter(TwoPanels):
    """Draws the last minutes of a cluster.

    Above: how many jobs are in the system, with a mark where a job arrives and where one is
    complete. Below: a line per executor, in the colour of the job whose tasks it runs, white where
    it moves or idles.
    """

    def __init__(self) -> None:
        from matplotlib.lines import Line2D

        mark: dict[str, Any] = {"color": DARK_GREY, "ls": "", "ms": 6}
        handles = [
            Line2D([], [], color=DARK_GREY, lw=1.5, label="in the system"),
            Line2D([], [], marker="^", label="arrives", **mark),
            Line2D([], [], marker="o", label="is complete", **mark),
        ]
        looks = {"jobs": {"color": DARK_GREY, "lw": 1.5}}
        super().__init__(("jobs", "executor"), (1, 3), gap=0.08, legend=handles, looks=looks)
        for axes in self._axes:
            axes.yaxis.get_major_locator().set_params(integer=True)

    def paint(self, played: Playback, workload: str) -> NDArray[np.uint8]:
        """Draw an episode's last minutes.

        Args:
            played: The episode so far.
            workload: Its name.

        Returns:
            (480, 800, 3) uint8 red, green, blue.
        """
        since_s = max(0.0, played.now_s - SHOWN_S)
        self.clear()
        self._paint_jobs(played, since_s)
        self._paint_executors(played, since_s)
        complete = np.isfinite(played.completion_s)
        jct_s = played.jct_s[complete]
        mean = f"{jct_s.mean():.1f} s, mean of those complete" if complete.any() else "none yet"
        return self.frame(
            f"workload {workload}: {complete.sum()} of {len(complete)} jobs complete, "
            f"{played.now_s:.1f} s",
            f"job completion time {mean}",
        )

    def _paint_jobs(self, played: Playback, since_s: float) -> None:
        axes = self._axes[0]
        shown = (-0.5, 4.5)
        if played.now_s > 0.0:
            count = played.in_system()
            self.draw(0, [staircase("jobs", *count)])
            now = count.value[count.border_s[1:] > since_s]
            shown = (-0.5, max(4.5, 1.25 * float(now.max())))
            for marker, times_s in (("^", played.arrival_s), ("o", played.completion_s)):
                jobs = np.flatnonzero((times_s >= since_s) & (times_s <= played.now_s))
                place = np.searchsorted(count.border_s, times_s[jobs], "right") - 1
                heights = count.value[np.minimum(place, len(count.value) - 1)]
                colours = [JOB_COLOURS[job % len(JOB_COLOURS)] for job in jobs.tolist()]
                axes.scatter(times_s[jobs], heights, 36, colours, marker=marker, zorder=3)
        axes.set_ylim(*shown)

    def _paint_executors(self, played: Playback, since_s: float) -> None:
        from matplotlib.collections import PolyCollection

        axes, spells = self._axes[1], played.spells(since_s)
        left, right = np.maximum(spells.begin_s, since_s), np.minimum(spells.end_s, played.now_s)
        low, high = spells.executor - 0.4, spells.executor + 0.4
        corners = np.stack(  # (K, 4, 2)
            [
                np.stack([left, left, right, right], axis=1),
                np.stack([low, high, high, low], axis=1),
            ],
            axis=2,
        )
        colours = [JOB_COLOURS[job % len(JOB_COLOURS)] for job in spells.job.tolist()]
        axes.add_collection(PolyCollection(list(corners), facecolors=colours, linewidths=0))
        axes.set_ylim(played.num_executors - 0.5, -0.5)
        axes.set_xlim(since_s, since_s + SHOWN_S)
