"""The CJS simulator: one compiled event loop for the scalar and the vector environment.

Jobs arrive at a cluster of executors. A job is a graph of stages, and a stage has tasks that are
all alike. Whenever executors are free, or soon will be, a scheduler is asked which stage gets how
many of them. Every row of the arrays is one cluster, and the rows do not influence each other. Each
duration is keyed by (duration seed, arrival seed, job, stage, number of the stage's tasks that
began before), so schedulers that face the same arrivals face the same durations.

The terms are those of Spark and of Decima (SIGCOMM 2019):

- A *pool* is where an executor is: the common pool, one pool per job (idle there), or one pool per
  stage (working there, or just released).
- A *commitment* promises executors of a pool to a stage before they are free.
- The *source* is the pool whose executors are being committed.
- A *round* consists of all decisions about one source at one moment.

Times are in milliseconds, because a clock in seconds would break ties between events.

Source: the cluster simulator of NetLLM (SIGCOMM 2024), an early version of spark-sched-sim. The
results are equal to the bit when durations are replayed and idle executors are taken in ascending
order. Differences: an episode in which all executors stay idle for ever ends (there it is an
assertion error); an episode ends with the last completion (there the remaining moves are still
simulated); durations come from keyed random streams.
"""

# mypy: allow-untyped-defs
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from netllm_gym import randomness
from netllm_gym.arrays import FloatArray, IntArray
from netllm_gym.compiled import cached_njit, njit
from netllm_gym.data.cjs.workload import FIRST, FRESH, LEVELS, MOST_STAGES, REST, Jobs, Workload
from netllm_gym.envs.cjs.cluster import ClusterConfig

NOWHERE = -1  # the pool of a moving executor; the source when no scheduler is asked
COMMON = 0  # the common pool; job j's is 1 + j, that of the row's stage s is 1 + max_jobs + s
NO_STAGE = -1

ROW = np.dtype(
    [
        ("key", np.uint64),  # of the episode's durations
        ("now_ms", np.float64),
        ("reward_ms", np.float64),  # of the last decision
        ("busy_ms", np.float64),  # executor time that tasks have taken, or will have
        ("source", np.int64),  # a pool
        ("num_jobs", np.int64),
        ("num_arrived", np.int64),
        ("num_completed", np.int64),
        ("num_active", np.int64),
        ("num_schedulable", np.int64),
        ("round", np.int64),
        ("num_events", np.int64),
        ("next_order", np.int64),  # of the events that are put in the queue
        ("num_commitments", np.int64),
        ("num_noted", np.int64),  # tasks in the log
        ("invalid", np.bool_),  # the last action named no schedulable stage
        ("done", np.bool_),
        ("deadlock", np.bool_),
    ],
    align=True,
)
JOB = np.dtype(
    [
        ("template", np.int64),
        ("first_stage", np.int64),  # in the row's stages
        ("num_stages", np.int64),
        ("num_incomplete", np.int64),  # stages
        ("num_unstarted", np.int64),  # stages with tasks that have not begun; none: saturated
        ("num_schedulable", np.int64),  # stages
        ("supply", np.int64),  # executors that it has or has been promised
        ("attached", np.int64),  # executors that count as its own
        ("arrival_ms", np.float64),
        ("completion_ms", np.float64),  # inf until then
        ("work_ms", np.float64),
    ],
    align=True,
)
STAGE = np.dtype(
    [
        ("key", np.uint64),  # of its durations
        ("template", np.int64),  # in the workload's stages
        ("job", np.int64),
        ("num_tasks", np.int64),
        ("remaining", np.int64),  # tasks that have not begun
        ("completed", np.int64),
        ("moving", np.int64),  # executors on their way to it
        ("committed", np.int64),  # executors promised to it
        ("waits_for", np.int64),  # parents that are not complete
        ("selected", np.int64),  # round in which it was chosen last
        ("recent_ms", np.float64),  # duration of the task that began last
        ("schedulable", np.bool_),
    ],
    align=True,
)
EXECUTOR = np.dtype(
    [
        ("pool", np.int64),
        ("job", np.int64),  # that it is attached to, or -1
        ("stage", np.int64),  # that it works at or moves to
        ("last_stage", np.int64),  # of its last task; -1 if it idled since
        ("busy", np.bool_),
    ],
    align=True,
)
POOL = np.dtype([("size", np.int64), ("committed", np.int64)], align=True)
EVENT = np.dtype([("time_ms", np.float64), ("order", np.int64), ("executor", np.int64)], align=True)
COMMITMENT = np.dtype(
    [("pool", np.int64), ("stage", np.int64), ("count", np.int64)], align=True
)  # stage -1: the common pool
TASK = np.dtype(
    [
        ("executor", np.int64),
        ("job", np.int64),
        ("stage", np.int64),  # in the row's stages
        ("begin_ms", np.float64),
        ("end_ms", np.float64),
    ],
    align=True,
)

# Nothing is allocated in compiled code, so reference counting is off: numba would count references
# to every array in every call, which took two thirds of the time. Only the four functions that
# Python calls are cached on disk. They take plain tuples, because numba's cache would otherwise
# remember the classes `SimulatorArrays` and `State` by name, and fail to load after a renaming.
_OPTIONS: dict[str, Any] = {"error_model": "numpy", "_nrt": False}
_jit, _inlined = njit(**_OPTIONS), njit(inline="always", **_OPTIONS)
_cached_jit = cached_njit(**_OPTIONS)
_mix64, _to_unit = _jit(randomness.mix64), _jit(randomness.to_unit)
_GAMMA = randomness.GAMMA


class SimulatorArrays(NamedTuple):
    """What all rows share: the workload's M stages and the rules of the cluster.

    The first eleven fields are those of `Workload`.
    """

    stage_offset: IntArray
    num_tasks: IntArray
    rough_ms: FloatArray
    parent_offset: IntArray
    parents: IntArray
    child_offset: IntArray
    children: IntArray
    list_start: IntArray
    list_length: IntArray
    durations_ms: FloatArray
    is_recording: bool
    levels: FloatArray  # (E + 1, 3) of `_level_table`
    moving_delay_ms: float
    warmup_delay_ms: float
    backup_is_last: bool  # this and the next two: `ClusterConfig`'s switches
    supply_forgets_idle: bool
    reoffers_idle: bool


class State(NamedTuple):
    """The state of N clusters, changed in place; J jobs and S stages at most, E executors."""

    rows: NDArray[np.void]  # (N,) ROW
    jobs: NDArray[np.void]  # (N, J) JOB
    stages: NDArray[np.void]  # (N, S) STAGE
    executors: NDArray[np.void]  # (N, E) EXECUTOR
    pools: NDArray[np.void]  # (N, 1 + J + S) POOL
    events: NDArray[np.void]  # (N, E) EVENT, a binary heap
    commitments: NDArray[np.void]  # (N, E + 1) COMMITMENT
    active: IntArray  # (N, J) active jobs, in order of arrival
    active_before: IntArray  # (N, J) those before the last decision
    tasks: NDArray[np.void]  # (N, T) TASK, in the order in which they began


def pack_arrays(workload: Workload, config: ClusterConfig, num_executors: int) -> SimulatorArrays:
    """Return what all rows share."""
    return SimulatorArrays(
        **{name: getattr(workload, name) for name in SimulatorArrays._fields[:11]},
        levels=_level_table(num_executors, config.interpolation),
        moving_delay_ms=config.moving_delay_s * 1000.0,
        warmup_delay_ms=config.warmup_delay_s * 1000.0,
        backup_is_last=config.backup == "last",
        supply_forgets_idle=config.supply_forgets_idle,
        reoffers_idle=config.reoffer_idle,
    )


def _level_table(num_executors: int, interpolation: str) -> FloatArray:
    """Return (E + 1, 3): lower level, higher level, chance of the lower, per local executors."""
    table = np.zeros((num_executors + 1, 3))
    for local in range(num_executors + 1):
        low = max((level for level in LEVELS if level <= local), default=LEVELS[0])
        high = min((level for level in LEVELS if level >= local), default=LEVELS[-1])
        chance = 1.0 if low == high else (local - low) / (high - low)
        if interpolation == "linear" and low != high:
            chance = 1.0 - chance
        table[local] = LEVELS.index(low), LEVELS.index(high), chance
    return table


def new_state(
    num_rows: int, num_executors: int, max_jobs: int, max_stages: int, max_noted: int = 0
) -> State:
    """Return the state of N clusters in which no episode has begun.

    Args:
        num_rows: N.
        num_executors: E of each cluster.
        max_jobs: Most jobs of an episode.
        max_stages: Most stages of all jobs of an episode.
        max_noted: Size of the log of tasks, which pictures are drawn from.
    """
    rows = np.zeros(num_rows, ROW)
    rows["done"] = True
    return State(
        rows=rows,
        jobs=np.zeros((num_rows, max_jobs), JOB),
        stages=np.zeros((num_rows, max_stages), STAGE),
        executors=np.zeros((num_rows, num_executors), EXECUTOR),
        pools=np.zeros((num_rows, 1 + max_jobs + max_stages), POOL),
        events=np.zeros((num_rows, num_executors), EVENT),
        # Each commitment is backed by an executor of the pool, so there cannot be more.
        commitments=np.zeros((num_rows, num_executors + 1), COMMITMENT),
        active=np.zeros((num_rows, max_jobs), np.int64),
        active_before=np.zeros((num_rows, max_jobs), np.int64),
        tasks=np.zeros((num_rows, max_noted), TASK),
    )


# Queue of events: a binary heap by (time, order); each executor has at most one event ------------


@_inlined
def _set(event, time_ms, order, executor):
    event.time_ms, event.order, event.executor = time_ms, order, executor


@_inlined
def _replace_first_event(state, i, time_ms, order, executor):
    """Put an event in place of the first one."""
    heap, num_events = state.events, state.rows[i].num_events
    place, child = 0, 1
    while child < num_events:
        least = heap[i, child]
        if child + 1 < num_events:
            other = heap[i, child + 1]
            if other.time_ms < least.time_ms or (
                other.time_ms == least.time_ms and other.order < least.order
            ):
                child, least = child + 1, other
        if time_ms < least.time_ms or (time_ms == least.time_ms and order < least.order):
            break
        _set(heap[i, place], least.time_ms, least.order, least.executor)
        place, child = child, 2 * child + 1
    _set(heap[i, place], time_ms, order, executor)


@_jit
def _put_event(state, i, time_ms, executor):
    """Add an event of now or later to the queue; it comes after others of the same time."""
    row, heap = state.rows[i], state.events
    place = row.num_events
    while place > 0:
        above = heap[i, (place - 1) // 2]
        if above.time_ms <= time_ms:
            break
        _set(heap[i, place], above.time_ms, above.order, above.executor)
        place = (place - 1) // 2
    _set(heap[i, place], time_ms, row.next_order, executor)
    row.num_events += 1
    row.next_order += 1


@_jit
def _drop_first_event(state, i):
    row = state.rows[i]
    row.num_events -= 1
    last = state.events[i, row.num_events]
    _replace_first_event(state, i, last.time_ms, last.order, last.executor)


# Which stages may be scheduled -------------------------------------------------------------------


@_inlined
def _demand(each):
    """Return how many executors a stage can still use; 0 or less: it is saturated."""
    return each.remaining - each.moving - each.committed


@_jit
def _committable(state, i):
    """Return how many executors of the source are not committed yet."""
    source = state.rows[i].source
    return (
        0 if source == NOWHERE else state.pools[i, source].size - state.pools[i, source].committed
    )


@_jit
def _job_of_pool(state, i, pool):
    """Return the job that a pool belongs to, or -1."""
    if pool <= COMMON:
        return -1
    max_jobs = state.jobs.shape[1]
    return pool - 1 if pool <= max_jobs else state.stages[i, pool - 1 - max_jobs].job


@_inlined
def _is_schedulable(arrays, state, i, stage):
    """Whether a stage wants executors, all its parents have enough, and it was not chosen yet."""
    each = state.stages[i, stage]
    wanted = each.selected != state.rows[i].round and _demand(each) > 0
    if wanted:
        first = state.jobs[i, each.job].first_stage
        for place in range(
            arrays.parent_offset[each.template], arrays.parent_offset[each.template + 1]
        ):
            if _demand(state.stages[i, first + arrays.parents[place]]) > 0:
                wanted = False
                break
    return wanted


@_jit
def _refresh(arrays, state, i, only):
    """Update which stages are schedulable: those of the job `only`, or of all jobs (-1).

    A job may be given its own executors, and others' as long as it does not have all of them.
    """
    row, num_executors = state.rows[i], state.executors.shape[1]
    source_job = _job_of_pool(state, i, row.source)
    for place in range(row.num_active):
        number = state.active[i, place]
        if only not in (-1, number):
            continue
        job, count = state.jobs[i, number], 0
        may = number == source_job or job.supply < num_executors
        for stage in range(job.first_stage, job.first_stage + job.num_stages):
            schedulable = may and _is_schedulable(arrays, state, i, stage)
            state.stages[i, stage].schedulable = schedulable
            count += schedulable
        row.num_schedulable += count - job.num_schedulable
        job.num_schedulable = count


# Where executors go ------------------------------------------------------------------------------


@_jit
def _move_to_pool(state, i, executor, pool):
    each = state.executors[i, executor]
    if each.pool != NOWHERE:
        state.pools[i, each.pool].size -= 1
    each.pool = pool
    if pool != NOWHERE:
        state.pools[i, pool].size += 1


@_jit
def _detach(state, i, executor):
    """Let an executor belong to no job."""
    each = state.executors[i, executor]
    if each.job >= 0:
        state.jobs[i, each.job].attached -= 1
    each.job, each.last_stage = -1, NO_STAGE


@_jit
def _release(arrays, state, i, executor):
    """Send an executor to its job's pool, or to the common pool if the job is saturated."""
    each = state.executors[i, executor]
    if each.pool == COMMON:
        return
    job = _job_of_pool(state, i, each.pool)
    if state.jobs[i, job].num_unstarted == 0:
        _move_to_pool(state, i, executor, COMMON)
        _detach(state, i, executor)
        if arrays.supply_forgets_idle:
            state.jobs[i, job].supply -= 1
    elif each.pool != 1 + job:
        _move_to_pool(state, i, executor, 1 + job)


@_jit
def _commit(state, i, stage, count):
    """Commit executors of the source to a stage, or to the common pool (stage -1)."""
    if count <= 0:
        return
    row, stages = state.rows[i], state.stages
    state.pools[i, row.source].committed += count
    place = 0
    while place < row.num_commitments and not (
        state.commitments[i, place].pool == row.source
        and state.commitments[i, place].stage == stage
    ):
        place += 1
    commitment = state.commitments[i, place]
    if place == row.num_commitments:
        row.num_commitments += 1
        commitment.pool, commitment.stage, commitment.count = row.source, stage, 0
    commitment.count += count
    if stage != NO_STAGE:
        stages[i, stage].committed += count
        if stages[i, stage].job != _job_of_pool(state, i, row.source):
            state.jobs[i, stages[i, stage].job].supply += count


@_jit
def _oldest_commitment(state, i, pool):
    """Return the place of a pool's oldest commitment, or -1."""
    for place in range(state.rows[i].num_commitments):
        if state.commitments[i, place].pool == pool:
            return place
    return -1


@_jit
def _fulfil(arrays, state, i, executor, place):
    """Send an executor where the commitment at `place` promised one."""
    row, stages, commitments = state.rows[i], state.stages, state.commitments
    pool, stage = commitments[i, place].pool, commitments[i, place].stage
    commitments[i, place].count -= 1
    state.pools[i, pool].committed -= 1
    if commitments[i, place].count == 0:
        row.num_commitments -= 1
        for later in range(place, row.num_commitments):
            commitments[i, later] = commitments[i, later + 1]
    if stage == NO_STAGE:
        _release(arrays, state, i, executor)
        return
    stages[i, stage].committed -= 1
    if stages[i, stage].job != _job_of_pool(state, i, pool):
        state.jobs[i, stages[i, stage].job].supply -= 1
    _go(arrays, state, i, executor, stage)


@_jit
def _backup_of_job(arrays, state, i, job, source_job):
    """Return a schedulable stage of a job for an executor whose own has no task left, or -1."""
    found, first = NO_STAGE, state.jobs[i, job].first_stage
    if job == source_job or state.jobs[i, job].supply < state.executors.shape[1]:
        for stage in range(first, first + state.jobs[i, job].num_stages):
            if _is_schedulable(arrays, state, i, stage):
                found = stage
                if not arrays.backup_is_last:
                    break
    return found


@_jit
def _backup(arrays, state, i, executor):
    """Return a stage for an executor whose own has no task left: of its job, else of any."""
    own = state.executors[i, executor].job
    if own >= 0 and state.jobs[i, own].num_incomplete > 0:
        stage = _backup_of_job(arrays, state, i, own, own)
        if stage != NO_STAGE:
            return stage
    num_active = state.rows[i].num_active
    for nth in range(num_active):
        job = state.active[i, num_active - 1 - nth if arrays.backup_is_last else nth]
        if job != own:
            stage = _backup_of_job(arrays, state, i, job, own)
            if stage != NO_STAGE:
                return stage
    return NO_STAGE


@_jit
def _go(arrays, state, i, executor, stage):
    """Send an executor to a stage: it moves there, waits for it, or begins a task."""
    row, jobs, stages = state.rows[i], state.jobs, state.stages
    each = state.executors[i, executor]
    if stages[i, stage].remaining == 0:
        stage = _backup(arrays, state, i, executor)
        if stage == NO_STAGE:
            _release(arrays, state, i, executor)
            return
    job = stages[i, stage].job
    if each.job != job:
        left = _job_of_pool(state, i, each.pool)
        _move_to_pool(state, i, executor, NOWHERE)
        stages[i, stage].moving += 1
        jobs[i, job].supply += 1
        if left >= 0:
            jobs[i, left].supply -= 1
        _detach(state, i, executor)
        each.stage = stage
        _put_event(state, i, row.now_ms + arrays.moving_delay_ms, executor)
    elif stages[i, stage].waits_for > 0:
        each.last_stage = NO_STAGE
        _move_to_pool(state, i, executor, 1 + job)
    else:
        _move_to_pool(state, i, executor, 1 + jobs.shape[1] + stage)
        end_ms = row.now_ms + _begin_task(arrays, state, i, executor, stage)
        _put_event(state, i, end_ms, executor)


@_jit
def _begin_task(arrays, state, i, executor, stage):
    """Begin the stage's next task on an executor that is there; return how long it will take."""
    return _begin(arrays, state, i, executor, stage)


@_inlined
def _begin(arrays, state, i, executor, stage):
    """Begin the stage's next task; inlined where it takes most of the time.

    A duration comes from the stage's own random stream, or is the one that was recorded.
    """
    row, each, worker = state.rows[i], state.stages[i, stage], state.executors[i, executor]
    template, nth, job = each.template, each.num_tasks - each.remaining, state.jobs[i, each.job]
    if arrays.is_recording:
        duration_ms = arrays.durations_ms[arrays.list_start[template, 0, 0] + nth]
    else:
        low, high = arrays.levels[job.attached, 0], arrays.levels[job.attached, 1]
        draw = each.key + np.uint64(2 * nth + 1) * _GAMMA
        level = int(low if _to_unit(_mix64(draw)) < arrays.levels[job.attached, 2] else high)
        wave, extra_ms = FIRST, 0.0
        if worker.last_stage == NO_STAGE:
            if arrays.list_length[template, FRESH, level] > 0:
                wave = FRESH
            else:
                extra_ms = arrays.warmup_delay_ms
        else:
            if worker.last_stage == stage and arrays.list_length[template, REST, level] > 0:
                wave = REST
            if arrays.list_length[template, wave, level] == 0:
                wave = FRESH
        share = _to_unit(_mix64(draw + _GAMMA))
        place = int(share * arrays.list_length[template, wave, level])
        start = arrays.list_start[template, wave, level]
        duration_ms = arrays.durations_ms[start + place] + extra_ms
    each.remaining -= 1
    if each.remaining == 0:
        job.num_unstarted -= 1
    each.recent_ms = duration_ms
    worker.stage, worker.last_stage, worker.busy = stage, stage, True
    row.busy_ms += duration_ms
    if row.num_noted < state.tasks.shape[1]:
        task = state.tasks[i, row.num_noted]
        task.executor, task.job, task.stage = executor, each.job, stage
        task.begin_ms, task.end_ms = row.now_ms, row.now_ms + duration_ms
        row.num_noted += 1
    return duration_ms


@_jit
def _run_tasks(arrays, state, i):
    """Process the ends of tasks as long as their executors continue with the stage's next task.

    Nearly all events are of this kind. None of them changes a pool or needs a scheduler.
    """
    row = state.rows[i]
    until_ms = math.inf
    if row.num_arrived < row.num_jobs:
        until_ms = state.jobs[i, row.num_arrived].arrival_ms
    while row.num_events > 0 and not arrays.reoffers_idle:
        time_ms, executor = state.events[i, 0].time_ms, state.events[i, 0].executor
        worker = state.executors[i, executor]
        if until_ms <= time_ms or not worker.busy or state.stages[i, worker.stage].remaining == 0:
            return
        row.now_ms = time_ms
        state.stages[i, worker.stage].completed += 1
        duration_ms = _begin(arrays, state, i, executor, worker.stage)
        _replace_first_event(state, i, time_ms + duration_ms, row.next_order, executor)
        row.next_order += 1


# Events ------------------------------------------------------------------------------------------


@_jit
def _arrive_job(state, i):
    row = state.rows[i]
    row.now_ms = state.jobs[i, row.num_arrived].arrival_ms
    state.active[i, row.num_active] = row.num_arrived
    row.num_active += 1
    row.num_arrived += 1
    if state.pools[i, COMMON].size > 0:
        row.source = COMMON


@_jit
def _arrive_executor(arrays, state, i, executor):
    each = state.executors[i, executor]
    stage = each.stage
    each.job = state.stages[i, stage].job
    state.jobs[i, each.job].attached += 1
    state.stages[i, stage].moving -= 1
    _move_to_pool(state, i, executor, 1 + each.job)
    _go(arrays, state, i, executor, stage)


@_jit
def _complete_stage(arrays, state, i, stage):
    """Record that a stage is complete; return whether other stages may begin because of that."""
    each = state.stages[i, stage]
    job, changed = state.jobs[i, each.job], False
    job.num_incomplete -= 1
    for place in range(arrays.child_offset[each.template], arrays.child_offset[each.template + 1]):
        child = state.stages[i, job.first_stage + arrays.children[place]]
        child.waits_for -= 1
        changed = changed or child.waits_for == 0
    return changed


@_jit
def _complete_job(arrays, state, i, job):
    row, active = state.rows[i], state.active
    for executor in range(state.executors.shape[1]):
        if state.executors[i, executor].pool == 1 + job:
            _release(arrays, state, i, executor)
    place = 0
    while active[i, place] != job:
        place += 1
    row.num_active -= 1
    row.num_schedulable -= state.jobs[i, job].num_schedulable
    for later in range(place, row.num_active):
        active[i, later] = active[i, later + 1]
    state.jobs[i, job].completion_ms = row.now_ms
    row.num_completed += 1


@_jit
def _finish_task(arrays, state, i, executor):
    """Handle the end of an executor's task where its stage has no further task to begin."""
    row, stages, each = state.rows[i], state.stages, state.executors[i, executor]
    stage, pool = each.stage, each.pool
    job, changed = stages[i, stage].job, False
    if stages[i, stage].completed == stages[i, stage].num_tasks:
        changed = _complete_stage(arrays, state, i, stage)
        if state.jobs[i, job].num_incomplete == 0:
            _complete_job(arrays, state, i, job)
    place = _oldest_commitment(state, i, pool)
    if place >= 0:
        _fulfil(arrays, state, i, executor, place)
    else:
        each.last_stage = NO_STAGE
        if changed:
            _release(arrays, state, i, executor)
    if changed:
        row.source = 1 + job
    elif place < 0:
        row.source = pool


@_jit
def _next_event(arrays, state, i):
    """Process the next event; return False if there is none."""
    row, heap = state.rows[i], state.events
    if row.num_arrived < row.num_jobs and (
        row.num_events == 0 or state.jobs[i, row.num_arrived].arrival_ms <= heap[i, 0].time_ms
    ):
        _arrive_job(state, i)
        return True
    if row.num_events == 0:
        return False
    executor = heap[i, 0].executor
    row.now_ms = heap[i, 0].time_ms
    each = state.executors[i, executor]
    if not each.busy:
        _drop_first_event(state, i)
        _arrive_executor(arrays, state, i, executor)
        return True
    each.busy = False
    state.stages[i, each.stage].completed += 1
    if state.stages[i, each.stage].remaining > 0:
        end_ms = row.now_ms + _begin_task(arrays, state, i, executor, each.stage)
        _replace_first_event(state, i, end_ms, row.next_order, executor)
        row.next_order += 1
    else:
        _drop_first_event(state, i)
        _finish_task(arrays, state, i, executor)
    if arrays.reoffers_idle and _committable(state, i) <= 0 and state.pools[i, COMMON].size > 0:
        row.source = COMMON
    return True


# Rounds ------------------------------------------------------------------------------------------


@_jit
def _advance(arrays, state, i):
    """Process events until there is something to decide, or nothing will ever happen again."""
    row = state.rows[i]
    while row.num_completed < row.num_jobs:
        _run_tasks(arrays, state, i)
        if not _next_event(arrays, state, i):
            row.deadlock = True
            break
        if _committable(state, i) <= 0:
            continue  # the source stays, and a later event may make it the subject of a round
        _refresh(arrays, state, i, -1)
        if row.num_schedulable > 0:
            return
        for executor in range(state.executors.shape[1]):
            each = state.executors[i, executor]
            if each.pool == row.source and not each.busy:
                _release(arrays, state, i, executor)
        row.source = NOWHERE
    row.done = True


@_jit
def _finish_round(arrays, state, i):
    """Commit the rest to the common pool and send the source's idle executors on their way."""
    row = state.rows[i]
    source = row.source
    _commit(state, i, NO_STAGE, _committable(state, i))
    for executor in range(state.executors.shape[1]):
        each = state.executors[i, executor]
        if each.pool == source and not each.busy:
            place = _oldest_commitment(state, i, source)
            if place < 0:
                break
            _fulfil(arrays, state, i, executor, place)
    row.source = NOWHERE
    row.round += 1


@_jit
def _stage_at(state, i, slot):
    """Return the row's stage at a place of the view, or -1 if there is none."""
    if slot < 0:
        return NO_STAGE
    for nth in range(state.rows[i].num_active):
        job = state.jobs[i, state.active[i, nth]]
        if slot >= job.num_incomplete:
            slot -= job.num_incomplete
            continue
        for stage in range(job.first_stage, job.first_stage + job.num_stages):
            if state.stages[i, stage].completed < state.stages[i, stage].num_tasks:
                if slot == 0:
                    return stage
                slot -= 1
    return NO_STAGE


@_jit
def _decide(arrays, state, i, slot, count):
    """Take a decision; if it ends the round, advance to the next one and set the reward."""
    row, jobs, stages = state.rows[i], state.jobs, state.stages
    started_ms, arrived_before, num_before = row.now_ms, row.num_arrived, row.num_active
    row.reward_ms, row.invalid = 0.0, False
    stage = _stage_at(state, i, slot)
    if stage != NO_STAGE and not stages[i, stage].schedulable:
        stage = NO_STAGE
    if stage == NO_STAGE:
        row.invalid = slot >= 0
        _commit(state, i, NO_STAGE, _committable(state, i))
    else:
        count = min(count, _committable(state, i), _demand(stages[i, stage]))
        _commit(state, i, stage, count)
        stages[i, stage].selected = row.round
        _refresh(arrays, state, i, stages[i, stage].job)
        if row.num_schedulable > 0 and _committable(state, i) > 0:
            return
    for nth in range(num_before):
        state.active_before[i, nth] = state.active[i, nth]
    _finish_round(arrays, state, i)
    _advance(arrays, state, i)
    now_ms = row.now_ms
    if now_ms != started_ms:
        for nth in range(num_before):
            completion_ms = jobs[i, state.active_before[i, nth]].completion_ms
            row.reward_ms -= min(completion_ms, now_ms) - started_ms
        for job in range(arrived_before, row.num_arrived):
            row.reward_ms -= min(jobs[i, job].completion_ms, now_ms) - jobs[i, job].arrival_ms


@_cached_jit
def step_rows(plain_arrays, plain_state, slots, counts):
    """Take one decision in every row that is not done; done rows stay as they are.

    Args:
        plain_arrays: `SimulatorArrays` as a plain tuple.
        plain_state: `State` as a plain tuple, changed in place.
        slots: (N,) place of a stage among those in view, or -1 for no stage.
        counts: (N,) executors for it, at most.
    """
    arrays, state = SimulatorArrays(*plain_arrays), State(*plain_state)
    for i in range(len(slots)):
        state.rows[i].reward_ms, state.rows[i].invalid = 0.0, False
        if not state.rows[i].done:
            _decide(arrays, state, i, slots[i], counts[i])


def begin_row(arrays: SimulatorArrays, state: State, i: int, key: np.uint64, jobs: Jobs) -> None:
    """Begin an episode in one row and advance to its first decision.

    Args:
        arrays: What all rows share.
        state: Changed in place.
        i: The row.
        key: Of the episode's durations.
        jobs: Of the episode.
    """
    for records in (state.rows, state.jobs, state.stages, state.pools):
        records[i] = 0
    state.executors[i] = (COMMON, -1, NO_STAGE, NO_STAGE, False)
    state.pools["size"][i, COMMON] = state.executors.shape[1]
    row, job = state.rows[i], state.jobs[i, : len(jobs.template)]
    row["key"], row["round"], row["num_jobs"] = key, 1, len(job)
    origin = arrays.stage_offset[jobs.template]
    job["num_stages"] = arrays.stage_offset[jobs.template + 1] - origin
    job["num_incomplete"] = job["num_unstarted"] = job["num_stages"]
    job["first_stage"] = np.cumsum(job["num_stages"]) - job["num_stages"]
    job["template"], job["arrival_ms"] = jobs.template, jobs.arrival_ms
    job["completion_ms"] = math.inf
    number = np.repeat(np.arange(len(job)), job["num_stages"])  # job of each stage
    nth = np.arange(len(number)) - job["first_stage"][number]
    template = origin[number] + nth
    stage = state.stages[i, : len(number)]
    stage["key"] = randomness.mix64(
        key + (number * (MOST_STAGES + 1) + nth + 1).astype(np.uint64) * _GAMMA
    )
    stage["template"], stage["job"] = template, number
    stage["num_tasks"] = stage["remaining"] = arrays.num_tasks[template]
    stage["waits_for"] = np.diff(arrays.parent_offset)[template]
    stage["recent_ms"] = arrays.rough_ms[template]
    job["work_ms"] = np.bincount(number, stage["num_tasks"] * stage["recent_ms"])
    _start_row(tuple(arrays), tuple(state), i)


@_cached_jit
def _start_row(plain_arrays, plain_state, i):
    """Let the first jobs arrive in a row, and advance to its first decision."""
    arrays, state = SimulatorArrays(*plain_arrays), State(*plain_state)
    row = state.rows[i]
    while row.num_arrived < row.num_jobs and state.jobs[i, row.num_arrived].arrival_ms <= 0.0:
        _arrive_job(state, i)
    row.source = COMMON
    _refresh(arrays, state, i, -1)
    if row.num_schedulable == 0:
        _advance(arrays, state, i)


# What schedulers see -----------------------------------------------------------------------------


@_cached_jit
def count_view(plain_arrays, plain_state):
    """Return how many stages, jobs and edges are in view in all rows; of the edges, at most."""
    arrays, state = SimulatorArrays(*plain_arrays), State(*plain_state)
    num_stages, num_jobs, num_edges = 0, 0, 0
    for i in range(len(state.rows)):
        if not state.rows[i].done:
            num_jobs += state.rows[i].num_active
            for nth in range(state.rows[i].num_active):
                job = state.jobs[i, state.active[i, nth]]
                first = arrays.stage_offset[job.template]
                end = first + job.num_stages
                num_stages += job.num_incomplete
                num_edges += arrays.child_offset[end] - arrays.child_offset[first]
    return num_stages, num_jobs, num_edges


@_cached_jit
def fill_view(plain_arrays, plain_state, per_row, per_stage, per_job, edges, place_of):
    """Write what the rows' schedulers see, row after row; return how many edges there are.

    Args:
        plain_arrays: `SimulatorArrays` as a plain tuple.
        plain_state: `State` as a plain tuple.
        per_row: Arrays of `ROW_FIELDS`, in that order.
        per_stage: Arrays of `STAGE_FIELDS`.
        per_job: Arrays of `JOB_FIELDS`.
        edges: (L, 2), as long as `count_view` says.
        place_of: Room for the place of each stage of the largest job.
    """
    arrays, state = SimulatorArrays(*plain_arrays), State(*plain_state)
    clock_ms, committable, source_job, num_executors, num_stages, num_jobs, num_edges = per_row
    remaining, demand, stage_id, stage_job, stage_tasks, duration_ms, schedulable = per_stage
    job_id, supply, arrival_ms, work_ms = per_job
    at_stage, at_job, at_edge = 0, 0, 0
    for i in range(len(state.rows)):
        row = state.rows[i]
        clock_ms[i], num_executors[i] = row.now_ms, state.executors.shape[1]
        committable[i], source_job[i] = 0, -1
        num_stages[i], num_jobs[i], num_edges[i] = 0, 0, 0
        if row.done:
            continue
        committable[i] = _committable(state, i)
        source = _job_of_pool(state, i, row.source)
        begin, first_edge = at_stage, at_edge
        for nth in range(row.num_active):
            number = state.active[i, nth]
            job = state.jobs[i, number]
            if number == source:
                source_job[i] = nth
            job_id[at_job], supply[at_job] = number, job.supply
            arrival_ms[at_job], work_ms[at_job] = job.arrival_ms, job.work_ms
            at_job += 1
            for id_ in range(job.num_stages):
                each = state.stages[i, job.first_stage + id_]
                place_of[id_] = -1
                if each.completed == each.num_tasks:
                    continue
                place_of[id_] = at_stage - begin
                remaining[at_stage] = each.remaining
                demand[at_stage] = _demand(each)
                duration_ms[at_stage], schedulable[at_stage] = each.recent_ms, each.schedulable
                stage_id[at_stage], stage_job[at_stage] = id_, nth
                stage_tasks[at_stage] = each.num_tasks
                at_stage += 1
            # A child cannot be complete before its parent.
            for id_ in range(job.num_stages):
                if place_of[id_] >= 0:
                    origin = state.stages[i, job.first_stage + id_].template
                    for place in range(
                        arrays.child_offset[origin], arrays.child_offset[origin + 1]
                    ):
                        edges[at_edge, 0] = place_of[id_]
                        edges[at_edge, 1] = place_of[arrays.children[place]]
                        at_edge += 1
        num_stages[i], num_jobs[i] = at_stage - begin, row.num_active
        num_edges[i] = at_edge - first_edge
    return at_edge
