"""The batch of clusters that `CJSEnv` (one row) and `CJSVectorEnv` (N rows) share.

The simulator, and numba with it, is imported when the first episode begins, so `gym.make` is fast.
"""

from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from typing_extensions import TypedDict

from netllm_gym.arrays import BoolArray, FloatArray, IntArray
from netllm_gym.configs import from_json
from netllm_gym.data.cjs.named import workload as load_workload
from netllm_gym.data.cjs.workload import Jobs, Workload
from netllm_gym.envs.batch import Outcome, RowBatch, check_within, whole_actions
from netllm_gym.envs.cjs.cluster import ClusterConfig, whole_number
from netllm_gym.envs.cjs.observation import JOB_FIELDS, ROW_FIELDS, STAGE_FIELDS, ClusterView
from netllm_gym.envs.cjs.padding import Padded, PaddedSize, observation_space, pad
from netllm_gym.errors import InputError
from netllm_gym.randomness import keys_of_seeds, mix64

# Columns of the info that are known at an episode's end, and what they are before it; `jct_list_s`,
# one per job, is another.
END_KEYS = {
    **dict.fromkeys(("jct_s", "jct_p95_s", "makespan_s"), np.inf),
    **dict.fromkeys(("utilisation", "deadlock"), 0.0),
}
DEFAULT_JOBS, DEFAULT_GAP_S = 200, 25.0
MOST_EXECUTORS = 10_000
MOST_JOBS = 100_000
MOST_SEED = 2**63 - 1
_MOVES = 4  # of executors to other jobs, one after the other, while no task runs
_NOT_IN_VIEW = 2**62  # a place that holds no stage, and is not "no stage" either


@cache
def _simulator() -> ModuleType:
    from netllm_gym.envs.cjs import simulator

    return simulator


WorkloadLike = str | Path | Workload


class ClusterArguments(TypedDict, total=False):
    """What both environments take by name; see `CJSEnv`, and `ClusterBatch` for the defaults."""

    num_executors: int
    num_jobs: int | None
    mean_gap_s: float
    cluster: ClusterConfig | None
    duration_seed: int
    max_stages: int
    max_jobs: int
    max_edges: int | None
    strict_actions: bool


class ClusterBatch(RowBatch):
    """N clusters that run the jobs of one workload.

    Observations and actions are padded to a fixed size, as Gymnasium needs them, or a `ClusterView`
    and places in it. A `ClusterView` has no Gymnasium space, so the spaces are always the padded.

    Args:
        num_rows: N.
        padded: Whether observations and actions are padded.
        workload: This and all others: see `CJSEnv`.

    Attributes:
        notes_tasks: Whether a log of all tasks is kept, which pictures are drawn from; it must be
            set before the first episode.
        arrival_seeds: (N,) of the episode that each row plays.
    """

    option_names = ("arrival_seed",)

    def __init__(
        self,
        num_rows: int,
        workload: WorkloadLike = "synthetic",
        num_executors: int = 50,
        num_jobs: int | None = None,
        mean_gap_s: float = DEFAULT_GAP_S,
        cluster: ClusterConfig | None = None,
        duration_seed: int = 0,
        max_stages: int = 1024,
        max_jobs: int = 256,
        max_edges: int | None = None,
        strict_actions: bool = False,
        padded: bool = False,
    ) -> None:
        super().__init__(num_rows)
        self.workload = load_workload(workload)
        recorded = self.workload.num_templates if self.workload.is_recording else None
        if num_jobs is None:
            num_jobs = recorded or DEFAULT_JOBS
        num_jobs = whole_number("num_jobs", num_jobs, 1, MOST_JOBS)
        self.num_jobs = min(num_jobs, recorded or num_jobs)
        self.num_executors = whole_number("num_executors", num_executors, 1, MOST_EXECUTORS)
        self.duration_seed = whole_number("duration_seed", duration_seed, 0, MOST_SEED)
        if not isinstance(mean_gap_s, int | float) or not 0.0 < mean_gap_s < float("inf"):
            raise InputError(f"mean_gap_s must be above 0 and finite, got {mean_gap_s!r}")
        self.mean_gap_s = float(mean_gap_s)
        if isinstance(cluster, Mapping):  # its fields, as a spec that was written as JSON has them
            cluster = from_json(ClusterConfig, cluster)
        if not isinstance(cluster, ClusterConfig | None):
            raise InputError(f"cluster must be a ClusterConfig, got {cluster!r}")
        self.cluster = ClusterConfig() if cluster is None else cluster
        size = PaddedSize(max_stages, max_jobs, max_edges)
        if padded:
            size.check_holds(self.workload)
        self.padded = padded
        self.size, self.strict_actions = size, strict_actions
        self._stage_mask = np.zeros((num_rows, max_stages), np.bool_)  # of the last padded view
        self._executor_mask = np.zeros((num_rows, self.num_executors), np.bool_)
        self.observation_space = observation_space(size, self.num_executors)
        self.action_space = spaces.MultiDiscrete([size.max_stages + 1, self.num_executors])
        self.arrival_seeds = np.zeros(num_rows, np.int64)
        self.notes_tasks = False

    @cached_property
    def _arrays(self) -> Any:
        return _simulator().pack_arrays(self.workload, self.cluster, self.num_executors)

    @cached_property
    def state(self) -> Any:
        """The clusters, `State` of the simulator."""
        load = self.workload
        stages = load.most(np.ones_like(load.num_tasks), self.num_jobs)
        noted = load.most(load.num_tasks, self.num_jobs) if self.notes_tasks else 0
        return _simulator().new_state(
            self.num_rows, self.num_executors, self.num_jobs, stages, noted
        )

    @property
    def done(self) -> BoolArray:
        """(N,) whether each row's episode is over, or has not begun."""
        return np.array(self.state.rows["done"])

    def stop(self, rows: BoolArray) -> None:
        """End the episodes of some rows before their time; see `RowBatch`."""
        self.state.rows["done"][rows] = True

    def begin(
        self,
        begins: BoolArray,
        seeds: Sequence[int | None],
        options: Mapping[str, Any] | None,
        generator: np.random.Generator,
    ) -> Outcome:
        """Begin an episode in some rows; see `RowBatch`."""
        named = self._named_arrivals(options or {})
        for given in seeds:
            if given is not None and not 0 <= given <= MOST_SEED:
                raise InputError(f"seed must be in 0..{MOST_SEED}, got {given}")
        self.renew_keys(begins, seeds, generator)
        for row in np.flatnonzero(begins).tolist():
            seed = seeds[row]
            if named is not None:
                seed = int(named[row])
            elif seed is None:
                seed = int(self.keys[row] >> np.uint64(1))
            self.arrival_seeds[row] = seed
            key = self._duration_key(seed)
            _simulator().begin_row(self._arrays, self.state, row, key, self.jobs(seed))
        return self._outcome(np.zeros(self.num_rows, np.bool_))

    def step(self, actions: ArrayLike) -> Outcome:
        """Take one decision in every row that is not done; see `RowBatch`.

        Args:
            actions: (N, 2) place of a stage in the view, or -1 for no stage; largest number of
                executors for it, less one. A place without a schedulable stage counts as no stage.
                If they are padded, those of the action space.
        """
        if self.padded:
            actions = self.native_actions(actions, illegal=_NOT_IN_VIEW)
        slots, counts = whole_actions(actions, (self.num_rows, 2)).T.copy()
        if slots.min() < -1:
            raise InputError(f"stage of an action must be at least -1, got {slots.min()}")
        check_within("executors of an action must be in", counts, 0, self.num_executors - 1)
        before = self.done
        _simulator().step_rows(tuple(self._arrays), tuple(self.state), slots, counts + 1)
        ended = self.state.rows["done"] & ~before
        self._charge_deadlocks(ended)
        return self._outcome(ended)

    def padded_view(self, view: ClusterView) -> Padded:
        """Return a view padded; `action_masks` and `native_actions` then belong to it."""
        padded = pad(view, self.size, self.num_executors)
        self._stage_mask = padded.observation["stage_mask"] == 1
        self._executor_mask = padded.observation["executor_mask"] == 1
        return padded

    def native_actions(self, actions: ArrayLike, illegal: int) -> IntArray:
        """Return (N, 2) the decisions of padded actions as places in the view.

        Args:
            actions: (N, 2) of the action space.
            illegal: Replaces a stage that is not schedulable.
        """
        native, every = whole_actions(actions, (self.num_rows, 2)), np.arange(self.num_rows)
        slots, no_stage = native[:, 0].copy(), self.size.max_stages
        check_within("stage of an action must be in", slots, 0, no_stage)
        if self.strict_actions:
            legal = self.action_masks()[:, : no_stage + 1]
            for row in np.flatnonzero(~legal[every, slots] & ~self.done)[:1]:
                known = ", ".join(map(str, np.flatnonzero(legal[row])))
                raise InputError(
                    f"stage of an action must be schedulable, one of {known} "
                    f"({no_stage}: no stage), got {slots[row]}"
                )
        named = slots < no_stage
        wrong = named & ~self._stage_mask[every, slots * named]
        native[:, 0] = np.where(named, np.where(wrong, illegal, slots), -1)
        return native

    def action_masks(self) -> BoolArray:
        """Return (N, max_stages + 1 + num_executors) what each part of a padded action may be.

        "No stage" may also be answered where no stage that can be chosen is shown.
        """
        no_stage = self.may_wait() | ~self._stage_mask.any(axis=1)
        executors = self._executor_mask.copy()
        executors[:, 0] = True  # of a finished row, where nothing is asked
        return np.concatenate([self._stage_mask, no_stage[:, None], executors], axis=1)

    def may_wait(self) -> BoolArray:
        """Return (N,) whether the answer "no stage" is followed by a decision, not by a deadlock.

        Executors of the common pool are offered to the next job, and a stage that runs and has
        tasks left leads to a decision, too. Other rows are played on to see.
        """
        state, may = self.state, np.ones(self.num_rows, np.bool_)
        rows, executors, common = state.rows, state.executors, state.pools[:, 0]
        offered = (rows["num_arrived"] < rows["num_jobs"]) & (common["size"] > common["committed"])
        remaining = state.stages["remaining"][np.arange(self.num_rows)[:, None], executors["stage"]]
        runs_on = (executors["busy"] & (remaining > 0)).any(axis=1)
        unsure = np.flatnonzero(~offered & ~runs_on & ~rows["done"])
        if len(unsure):
            ahead = type(state)(*(each[unsure] for each in state))._replace(
                tasks=state.tasks[unsure, :0]
            )
            wait, none = np.full(len(unsure), -1), np.zeros(len(unsure), np.int64)
            _simulator().step_rows(tuple(self._arrays), tuple(ahead), wait, none)
            may[unsure] = ~ahead.rows["deadlock"]
        return may

    def _charge_deadlocks(self, ended: BoolArray) -> None:
        """Make an episode that deadlocked cost what it would if all jobs had ended after any other.

        After the last arrival a cluster that does not deadlock always runs a task or moves an
        executor. All tasks one after the other, and the moves before each stage, are therefore
        longer than what any schedule takes.
        """
        for row in np.flatnonzero(ended & self.state.rows["deadlock"]).tolist():
            jobs = self.job_records(row)
            latest_ms = jobs["arrival_ms"][-1] + self._longest_ms[jobs["template"]].sum()
            ended_ms = np.minimum(jobs["completion_ms"], self.state.rows["now_ms"][row])
            self.state.rows["reward_ms"][row] -= (latest_ms - ended_ms).sum()

    @cached_property
    def _longest_ms(self) -> FloatArray:
        """(K,) upper bound on the time in which a job of each template is all that happens."""
        load, cluster = self.workload, self.cluster
        task_ms = load.longest_ms + 1000.0 * cluster.warmup_delay_s
        # A move may turn out to be in vain twice, and a round may follow the second: four moves
        # before a stage, and as many before the first.
        move_ms = _MOVES * 1000.0 * cluster.moving_delay_s
        stage_ms = load.num_tasks * task_ms + move_ms
        return move_ms + np.add.reduceat(stage_ms, load.stage_offset[:-1])

    def jobs(self, arrival_seed: int) -> Jobs:
        """Return the jobs of an episode."""
        return self.workload.draw_jobs(arrival_seed, self.num_jobs, self.mean_gap_s * 1000.0)

    def view(self) -> ClusterView:
        """Return what the schedulers see now."""
        arrays, state = tuple(self._arrays), tuple(self.state)
        num_stages, num_jobs, num_edges = _simulator().count_view(arrays, state)
        per_row = _columns(ROW_FIELDS, self.num_rows)
        per_stage, per_job = _columns(STAGE_FIELDS, num_stages), _columns(JOB_FIELDS, num_jobs)
        edges = np.empty((num_edges, 2), np.int32)
        found = _simulator().fill_view(
            arrays,
            state,
            tuple(per_row.values()),
            tuple(per_stage.values()),
            tuple(per_job.values()),
            edges,
            np.empty(self.workload.max_stages_per_job, np.int64),
        )
        return ClusterView(**per_row, **per_stage, **per_job, edges=edges[:found])

    def job_records(self, row: int) -> NDArray[Any]:
        """Return (J,) the records of a row's jobs, `JOB` of the simulator."""
        return np.asarray(self.state.jobs[row][: self.num_jobs])

    def task_records(self, row: int) -> NDArray[Any]:
        """Return (T,) the records of a row's tasks so far, `TASK` of the simulator."""
        if not self.notes_tasks:
            raise InputError("tasks must be noted to be read, got notes_tasks=False")
        return np.asarray(self.state.tasks[row][: self.state.rows["num_noted"][row]])

    def _outcome(self, ended: BoolArray) -> Outcome:
        """Return what the rows see, and the results of episodes that just ended."""
        rows = self.state.rows
        deadlock = np.array(rows["deadlock"])
        info: dict[str, Any] = {
            "clock_s": rows["now_ms"] / 1000.0,
            "jobs_in_system": rows["num_active"].astype(np.float64),
            "invalid_action": rows["invalid"].astype(np.float64),
            **{name: np.full(self.num_rows, value) for name, value in END_KEYS.items()},
            "jct_list_s": np.full((self.num_rows, self.num_jobs), np.inf),
        }
        if ended.any():
            for name, values in self._sums(ended).items():
                info[name][ended] = values
        observation: Any = self.view()
        if self.padded:
            observation, hidden_stages = self.padded_view(observation)
            info["hidden_stages"] = hidden_stages.astype(np.float64)
        return Outcome(
            observation=observation,
            reward=rows["reward_ms"] / 1000.0,
            terminated=rows["done"] & ~deadlock,
            truncated=deadlock,
            info=info,
            where=dict.fromkeys((*END_KEYS, "jct_list_s"), ended),
        )

    def _sums(self, ended: BoolArray) -> dict[str, FloatArray]:
        rows, jobs = self.state.rows[ended], self.state.jobs[ended]
        jct_s = (jobs["completion_ms"] - jobs["arrival_ms"]) / 1000.0  # (ended, J)
        executor_ms = np.maximum(rows["now_ms"] * self.num_executors, 1e-9)
        return {
            "jct_s": jct_s.mean(axis=1),
            "jct_p95_s": np.percentile(jct_s, 95, axis=1, method="higher"),
            "makespan_s": jobs["completion_ms"].max(axis=1) / 1000.0,
            "utilisation": rows["busy_ms"] / executor_ms,
            "deadlock": rows["deadlock"].astype(np.float64),
            "jct_list_s": jct_s,
        }

    def _duration_key(self, arrival_seed: int) -> np.uint64:
        # The two seeds go through different functions, or (1, 2) and (2, 1), and (0, 0) and
        # (1, 1), would have the same durations.
        of_arrivals, apart = keys_of_seeds([arrival_seed, 0])
        keys = np.array([of_arrivals ^ ~apart, self.duration_seed], np.uint64)
        return np.uint64(np.bitwise_xor.reduce(mix64(keys)))

    def _named_arrivals(self, options: Mapping[str, Any]) -> IntArray | None:
        self.check_options(options)
        if "arrival_seed" not in options:
            return None
        return self.whole_per_row("arrival_seed", options["arrival_seed"], 0, MOST_SEED)


def _columns(fields: Mapping[str, type], length: int) -> dict[str, NDArray[Any]]:
    return {name: np.empty(length, kind) for name, kind in fields.items()}
