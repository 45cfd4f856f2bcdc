"""`CJSEnv.render`: a cluster as it is now as a few lines of text, or its last minutes drawn."""

from typing import Any, NamedTuple

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


class JobNow(NamedTuple):
    """A job in the system."""

    number: int
    template: str  # its name
    age_s: float
    stages_done: int
    num_stages: int
    tasks_left: int  # that are not complete
    executors: int  # that run its tasks, move to it or idle for it


class Snapshot(NamedTuple):
    """A cluster at one moment."""

    workload: str  # its name
    now_s: float
    num_jobs: int
    num_completed: int
    committable: int  # executors to be committed now
    busy: int  # executors that run a task
    moving: int
    idle: int
    jobs: tuple[JobNow, ...]  # in order of arrival

    @classmethod
    def of(cls, batch: ClusterBatch, row: int = 0) -> "Snapshot":
        """Read the state of a row of clusters that began an episode."""
        state, stages, executors = (
            batch.state.rows[row],
            batch.state.stages[row],
            batch.state.executors[row],
        )
        jobs, template_names = batch.job_records(row), batch.workload.template_names
        moving = (executors["pool"] < 0) & ~executors["busy"]
        # A moving executor has no job yet, but the stage that it moves to has one.
        serves = np.where(moving, stages["job"][executors["stage"]], executors["job"])
        now = []
        for number in batch.state.active[row][: state["num_active"]].tolist():
            job = jobs[number]
            own = stages[job["first_stage"] : job["first_stage"] + job["num_stages"]]
            now.append(
                JobNow(
                    number=number,
                    template=template_names[job["template"]],
                    age_s=float(state["now_ms"] - job["arrival_ms"]) / 1000.0,
                    stages_done=int(job["num_stages"] - job["num_incomplete"]),
                    num_stages=int(job["num_stages"]),
                    tasks_left=int((own["num_tasks"] - own["completed"]).sum()),
                    executors=int(np.count_nonzero(serves == number)),
                )
            )
        busy = int(np.count_nonzero(executors["busy"]))
        return cls(
            workload=batch.workload.name,
            now_s=float(state["now_ms"]) / 1000.0,
            num_jobs=int(state["num_jobs"]),
            num_completed=int(state["num_completed"]),
            committable=int(batch.view().committable[row]),
            busy=busy,
            moving=int(np.count_nonzero(moving)),
            idle=len(executors) - busy - int(np.count_nonzero(moving)),
            jobs=tuple(now),
        )


def cluster_text(now: Snapshot) -> str:
    """Return what a cluster does now: two lines, and a table of the jobs in the system."""
    lines = [
        f"workload {now.workload}, {now.now_s:.1f} s: {len(now.jobs)} jobs in the system, "
        f"{now.num_completed} of {now.num_jobs} complete",
        f"executors: {now.busy} busy, {now.moving} moving, {now.idle} idle; "
        f"{now.committable} to commit",
    ]
    if not now.jobs:
        return "\n".join(lines)
    names = [job.template for job in now.jobs[:LISTED]]
    width = max(len("template"), *(len(name) for name in names))
    lines.append(f" job  {'template':{width}}   age, s  stages done  tasks left  executors")
    lines += [
        f"{job.number:4}  {job.template:{width}}  {job.age_s:7.1f}  "
        f"{f'{job.stages_done} of {job.num_stages}':>11}  {job.tasks_left:10}  {job.executors:9}"
        for job in now.jobs[:LISTED]
    ]
    if len(now.jobs) > LISTED:
        lines.append(f"and {len(now.jobs) - LISTED} younger jobs")
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
