"""An episode of a cluster on a time axis: which executor ran which job's tasks, and when."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.envs.cjs.batch import ClusterBatch
from netllm_gym.envs.curves import Steps, how_many


class Spells(NamedTuple):
    """Times in which one executor ran tasks of one job without a pause."""

    executor: IntArray  # (K,)
    job: IntArray  # (K,)
    begin_s: FloatArray  # (K,)
    end_s: FloatArray  # (K,)


@dataclass(frozen=True, eq=False)
class Playback:
    """One episode, as far as it was simulated; T tasks have begun."""

    now_s: float  # how far
    num_executors: int
    arrival_s: FloatArray  # (J,) of all its jobs, rising; also of those after `now_s`
    completion_s: FloatArray  # (J,) inf where a job is not complete
    executor: IntArray  # (T,) of each task
    job: IntArray  # (T,) that it belongs to
    begin_s: FloatArray  # (T,) never falling
    end_s: FloatArray  # (T,) may be after `now_s`

    @classmethod
    def of(cls, batch: ClusterBatch, row: int = 0) -> "Playback":
        """Read the episode of a row of clusters, whose batch has `notes_tasks`."""
        now_s = float(batch.state.rows["now_ms"][row]) / 1000.0
        jobs, tasks = batch.job_records(row), batch.task_records(row)
        return cls(
            now_s=now_s,
            num_executors=batch.num_executors,
            arrival_s=jobs["arrival_ms"] / 1000.0,
            completion_s=jobs["completion_ms"] / 1000.0,
            executor=tasks["executor"].copy(),
            job=tasks["job"].copy(),
            begin_s=tasks["begin_ms"] / 1000.0,
            end_s=tasks["end_ms"] / 1000.0,
        )

    @property
    def jct_s(self) -> FloatArray:
        """(J,) time from arrival to completion; inf where a job is not complete."""
        return self.completion_s - self.arrival_s

    def busy(self) -> Steps:
        """Return how many executors ran a task."""
        return how_many(self.begin_s, self.end_s, self.now_s)

    def in_system(self) -> Steps:
        """Return how many jobs had arrived and were not complete."""
        return how_many(self.arrival_s, self.completion_s, self.now_s)

    def spells(self, since_s: float = 0.0) -> Spells:
        """Return the spells of all executors, sorted by executor and time.

        Args:
            since_s: Spells that ended before are left out.
        """
        late = np.flatnonzero(self.end_s > since_s)
        order = late[np.lexsort((self.begin_s[late], self.executor[late]))]
        executor, job = self.executor[order], self.job[order]
        begin_s, end_s = self.begin_s[order], self.end_s[order]
        anew = np.ones(len(order), np.bool_)
        anew[1:] = (executor[1:] != executor[:-1]) | (job[1:] != job[:-1])
        anew[1:] |= begin_s[1:] > end_s[:-1]
        return Spells(executor[anew], job[anew], begin_s[anew], end_s[np.roll(anew, -1)])
