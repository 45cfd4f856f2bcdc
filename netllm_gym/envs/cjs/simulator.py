"""The CJS simulator: one numba event loop under the scalar and the vector environment.

Jobs arrive at a cluster of executors; a job is a graph of stages, a stage has tasks alike. A
scheduler is asked, whenever executors are free or about to be, which stage gets how many of them.
Every row of the arrays is one cluster; rows know nothing of each other, and every duration is keyed
by (duration seed, job, stage, how many tasks of the stage began before), so schedulers that meet
the same arrivals meet the same durations.

The vocabulary, as in Spark and in Decima (SIGCOMM 2019):

- a *pool* is where an executor is: the common one, one per job (idle there), one per stage (working
  there, or just released);
- a *commitment* promises executors of a pool to a stage, before they are free;
- the *source* is the pool whose executors are being committed;
- a *round* is all decisions about one source at one moment.

Units: milliseconds. A clock in seconds would break ties between events.

Source: NetLLM's cluster simulator (an early spark-sched-sim), `spec/cjs.md` section 3, to the bit
when durations are replayed and idle executors are taken in ascending order. Differs: an episode
whose executors all stand idle for ever ends (there it is an assertion); it ends with the last
completion (there trailing moves are still played); durations come from keyed streams.
"""

import math
from typing import Any

import numba
import numpy as np

from netllm_gym import randomness
from netllm_gym.arrays import FloatArray
from netllm_gym.data.cjs.workload import FIRST, FRESH, LEVELS, REST, Workload
from netllm_gym.envs.cjs.cluster import ClusterConfig

NOWHERE = -1  # pool of a moving executor; source when nothing is asked
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
        ("num_noted", np.int64),  # tasks that are written down
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

# Nothing is allocated in here, so no reference need be counted: numba would count one to each array
# of a tuple in every call, which took two thirds of the time.
_OPTIONS: dict[str, Any] = {"cache": True, "error_model": "numpy", "_nrt": False}
_jit, _inlined = numba.njit(**_OPTIONS), numba.njit(inline="always", **_OPTIONS)
_mix64, _to_unit = _jit(randomness.mix64), _jit(randomness.to_unit)
_GAMMA = randomness.GAMMA

SimulatorArrays = tuple[Any, ...]
State = tuple[Any, ...]


def pack_arrays(workload: Workload, config: ClusterConfig, num_executors: int) -> SimulatorArrays:
    """Lay out what all rows share, as a plain tuple of arrays and numbers."""
    # Plain, since numba's cache on disk would remember the classes of named tuples.
    return (
        workload.stage_offset,
        workload.num_tasks,
        workload.rough_ms,
        (workload.parent_offset, workload.parents, workload.child_offset, workload.children),
        (workload.list_start, workload.list_length, workload.durations_ms),
        _level_table(num_executors, config.interpolation),
        (
            workload.is_recording,
            config.moving_delay_s * 1000.0,
            config.warmup_delay_s * 1000.0,
            config.backup == "last",
            config.supply_forgets_idle,
            config.reoffer_idle,
        ),
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
    """Return the arrays of N clusters in which no episode has begun, as a plain tuple.

    Args:
        num_rows: N.
        num_executors: E of each.
        max_jobs: Most jobs of an episode.
        max_stages: Most stages of all jobs of an episode.
        max_noted: How many tasks are written down as they begin, for pictures.
    """
    rows = np.zeros(num_rows, ROW)
    rows["done"] = True
    return (
        rows,
        np.zeros((num_rows, max_jobs), JOB),
        np.zeros((num_rows, max_stages), STAGE),
        np.zeros((num_rows, num_executors), EXECUTOR),
        np.zeros((num_rows, 1 + max_jobs + max_stages), POOL),
        np.zeros((num_rows, num_executors), EVENT),
        # What is promised is backed by executors of the pool, so more entries there cannot be.
        np.zeros((num_rows, num_executors + 1), COMMITMENT),
        np.zeros((num_rows, max_jobs), np.int64),  # active jobs, in order of arrival
        np.zeros((num_rows, max_jobs), np.int64),  # those before the last decision
        np.zeros((num_rows, max_noted), TASK),  # in the order in which they began
    )


# Queue of events: a binary heap by (time, order); each executor has at most one event ------------


@_inlined
def _set(event, time_ms, order, executor):  # type: ignore[no-untyped-def]
    event.time_ms, event.order, event.executor = time_ms, order, executor


@_inlined
def _sift_down(heap, i, num_events, time_ms, order, executor):  # type: ignore[no-untyped-def]
    """Put an event in place of the first one."""
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
def _put_event(rows, heap, i, time_ms, executor):  # type: ignore[no-untyped-def]
    """Put an event of now or later into the queue; it comes after others of the same time."""
    row = rows[i]
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
def _drop_first_event(rows, heap, i):  # type: ignore[no-untyped-def]
    row = rows[i]
    row.num_events -= 1
    last = heap[i, row.num_events]
    _sift_down(heap, i, row.num_events, last.time_ms, last.order, last.executor)


# What may be scheduled ---------------------------------------------------------------------------


@_inlined
def _demand(each):  # type: ignore[no-untyped-def]
    """Return how many executors a stage can still use; 0 or less: it is saturated."""
    return each.remaining - each.moving - each.committed


@_jit
def _committable(rows, pools, i):  # type: ignore[no-untyped-def]
    source = rows[i].source
    return 0 if source == NOWHERE else pools[i, source].size - pools[i, source].committed


@_jit
def _job_of_pool(jobs, stages, i, pool):  # type: ignore[no-untyped-def]
    """Return the job that a pool belongs to, or -1."""
    if pool <= COMMON:
        return -1
    max_jobs = jobs.shape[1]
    return pool - 1 if pool <= max_jobs else stages[i, pool - 1 - max_jobs].job


@_inlined
def _is_schedulable(parent_offset, parents, row, jobs, stages, i, stage):  # type: ignore[no-untyped-def]
    """Whether a stage wants executors, all its parents have enough, and it was not chosen yet."""
    each = stages[i, stage]
    wanted = each.selected != row.round and _demand(each) > 0
    if wanted:
        first = jobs[i, each.job].first_stage
        for place in range(parent_offset[each.template], parent_offset[each.template + 1]):
            if _demand(stages[i, first + parents[place]]) > 0:
                wanted = False
                break
    return wanted


@_inlined
def _refresh_job(parent_offset, parents, row, jobs, stages, i, number, source_job, num_executors):  # type: ignore[no-untyped-def]
    """Say anew which stages of a job are schedulable.

    A job may be given executors of its own, or of others as long as it has not all of them.
    """
    job, count = jobs[i, number], 0
    may = number == source_job or job.supply < num_executors
    for stage in range(job.first_stage, job.first_stage + job.num_stages):
        schedulable = may and _is_schedulable(parent_offset, parents, row, jobs, stages, i, stage)
        stages[i, stage].schedulable = schedulable
        count += schedulable
    row.num_schedulable += count - job.num_schedulable
    job.num_schedulable = count


@_jit
def _refresh(world, state, i, only):  # type: ignore[no-untyped-def]
    """Say anew which stages are schedulable: those of one job, or of all (-1)."""
    parent_offset, parents, _, _ = world[3]
    rows, jobs, stages, executors, active = state[0], state[1], state[2], state[3], state[7]
    row, num_executors = rows[i], executors.shape[1]
    source_job = _job_of_pool(jobs, stages, i, row.source)
    for place in range(row.num_active):
        number = active[i, place]
        if only in (-1, number):
            _refresh_job(
                parent_offset, parents, row, jobs, stages, i, number, source_job, num_executors
            )


# Where executors go ------------------------------------------------------------------------------


@_jit
def _move_to_pool(state, i, executor, pool):  # type: ignore[no-untyped-def]
    executors, pools = state[3], state[4]
    each = executors[i, executor]
    if each.pool != NOWHERE:
        pools[i, each.pool].size -= 1
    each.pool = pool
    if pool != NOWHERE:
        pools[i, pool].size += 1


@_jit
def _detach(state, i, executor):  # type: ignore[no-untyped-def]
    jobs, each = state[1], state[3][i, executor]
    if each.job >= 0:
        jobs[i, each.job].attached -= 1
    each.job, each.last_stage = -1, NO_STAGE


@_jit
def _release(world, state, i, executor):  # type: ignore[no-untyped-def]
    """Send an executor that nobody wants to its job's pool, or to the common one if it can go."""
    forgets = world[6][4]
    jobs, stages, each = state[1], state[2], state[3][i, executor]
    if each.pool == COMMON:
        return
    job = _job_of_pool(jobs, stages, i, each.pool)
    if jobs[i, job].num_unstarted == 0:
        _move_to_pool(state, i, executor, COMMON)
        _detach(state, i, executor)
        if forgets:
            jobs[i, job].supply -= 1
    elif each.pool != 1 + job:
        _move_to_pool(state, i, executor, 1 + job)


@_jit
def _commit(state, i, stage, count):  # type: ignore[no-untyped-def]
    """Promise executors of the source to a stage, or to the common pool (stage -1)."""
    rows, jobs, stages, pools, promised = state[0], state[1], state[2], state[4], state[6]
    row = rows[i]
    if count <= 0:
        return
    pools[i, row.source].committed += count
    place = 0
    while place < row.num_commitments and not (
        promised[i, place].pool == row.source and promised[i, place].stage == stage
    ):
        place += 1
    if place == row.num_commitments:
        row.num_commitments += 1
        promised[i, place].pool, promised[i, place].stage = row.source, stage
        promised[i, place].count = 0
    promised[i, place].count += count
    if stage != NO_STAGE:
        stages[i, stage].committed += count
        if stages[i, stage].job != _job_of_pool(jobs, stages, i, row.source):
            jobs[i, stages[i, stage].job].supply += count


@_jit
def _oldest_commitment(state, i, pool):  # type: ignore[no-untyped-def]
    """Return the place of a pool's oldest commitment, or -1."""
    rows, promised = state[0], state[6]
    for place in range(rows[i].num_commitments):
        if promised[i, place].pool == pool:
            return place
    return -1


@_jit
def _fulfil(world, state, i, executor, place):  # type: ignore[no-untyped-def]
    """Let an executor go where the commitment at `place` promised one."""
    rows, jobs, stages, pools, promised = state[0], state[1], state[2], state[4], state[6]
    pool, stage = promised[i, place].pool, promised[i, place].stage
    promised[i, place].count -= 1
    pools[i, pool].committed -= 1
    if promised[i, place].count == 0:
        rows[i].num_commitments -= 1
        for later in range(place, rows[i].num_commitments):
            promised[i, later] = promised[i, later + 1]
    if stage == NO_STAGE:
        _release(world, state, i, executor)
        return
    stages[i, stage].committed -= 1
    if stages[i, stage].job != _job_of_pool(jobs, stages, i, pool):
        jobs[i, stages[i, stage].job].supply -= 1
    _go(world, state, i, executor, stage)


@_jit
def _backup_of_job(world, state, i, job, source_job):  # type: ignore[no-untyped-def]
    """Return a schedulable stage of a job for an executor whose own has no task left, or -1."""
    (parent_offset, parents, _, _), takes_last = world[3], world[6][3]
    rows, jobs, stages, executors = state[:4]
    found, first = NO_STAGE, jobs[i, job].first_stage
    if job == source_job or jobs[i, job].supply < executors.shape[1]:
        for stage in range(first, first + jobs[i, job].num_stages):
            if _is_schedulable(parent_offset, parents, rows[i], jobs, stages, i, stage):
                found = stage
                if not takes_last:
                    break
    return found


@_jit
def _backup(world, state, i, executor):  # type: ignore[no-untyped-def]
    """Return a stage for an executor whose own has no task left: of its job, else of any."""
    takes_last = world[6][3]
    rows, jobs, executors, active = state[0], state[1], state[3], state[7]
    own = executors[i, executor].job
    if own >= 0 and jobs[i, own].num_incomplete > 0:
        stage = _backup_of_job(world, state, i, own, own)
        if stage != NO_STAGE:
            return stage
    num_active = rows[i].num_active
    for nth in range(num_active):
        job = active[i, num_active - 1 - nth if takes_last else nth]
        if job != own:
            stage = _backup_of_job(world, state, i, job, own)
            if stage != NO_STAGE:
                return stage
    return NO_STAGE


@_jit
def _go(world, state, i, executor, stage):  # type: ignore[no-untyped-def]
    """Send an executor to a stage: it moves there, waits for it, or begins a task."""
    moving_delay_ms = world[6][1]
    rows, jobs, stages, heap = state[0], state[1], state[2], state[5]
    each = state[3][i, executor]
    if stages[i, stage].remaining == 0:
        stage = _backup(world, state, i, executor)
        if stage == NO_STAGE:
            _release(world, state, i, executor)
            return
    job = stages[i, stage].job
    if each.job != job:
        left = _job_of_pool(jobs, stages, i, each.pool)
        _move_to_pool(state, i, executor, NOWHERE)
        stages[i, stage].moving += 1
        jobs[i, job].supply += 1
        if left >= 0:
            jobs[i, left].supply -= 1
        _detach(state, i, executor)
        each.stage = stage
        _put_event(rows, heap, i, rows[i].now_ms + moving_delay_ms, executor)
    elif stages[i, stage].waits_for > 0:
        each.last_stage = NO_STAGE
        _move_to_pool(state, i, executor, 1 + job)
    else:
        _move_to_pool(state, i, executor, 1 + jobs.shape[1] + stage)
        end_ms = rows[i].now_ms + _begin_task(world, state, i, executor, stage)
        _put_event(rows, heap, i, end_ms, executor)


@_jit
def _begin_task(world, state, i, executor, stage):  # type: ignore[no-untyped-def]
    """Begin the stage's next task on an executor that is there; return how long it will take."""
    list_start, list_length, durations_ms = world[4]
    rows, jobs, stages, executors = state[:4]
    return _begin(
        list_start, list_length, durations_ms, world[5], world[6][0], world[6][2],
        rows[i], jobs, stages[i, stage], executors[i, executor], stage, i, executor, state[9],
    )  # fmt: skip


@_inlined
def _begin(  # type: ignore[no-untyped-def]
    list_start, list_length, durations_ms, levels, is_recording, warmup_delay_ms,
    row, jobs, each, worker, stage, i, executor, noted,
):  # fmt: skip
    """Begin a task of the stage `each` on `worker`; return how long it will take.

    A duration comes from the stage's own stream, or is the one that was recorded.
    """
    template, nth, job = each.template, each.num_tasks - each.remaining, jobs[i, each.job]
    if is_recording:
        duration_ms = durations_ms[list_start[template, 0, 0] + nth]
    else:
        low, high, chance = (
            levels[job.attached, 0],
            levels[job.attached, 1],
            levels[job.attached, 2],
        )
        draw = each.key + np.uint64(2 * nth + 1) * _GAMMA
        level = int(low if _to_unit(_mix64(draw)) < chance else high)
        wave, extra_ms = FIRST, 0.0
        if worker.last_stage == NO_STAGE:
            if list_length[template, FRESH, level] > 0:
                wave = FRESH
            else:
                extra_ms = warmup_delay_ms
        else:
            if worker.last_stage == stage and list_length[template, REST, level] > 0:
                wave = REST
            if list_length[template, wave, level] == 0:
                wave = FRESH
        share = _to_unit(_mix64(draw + _GAMMA))
        place = int(share * list_length[template, wave, level])
        duration_ms = durations_ms[list_start[template, wave, level] + place] + extra_ms
    each.remaining -= 1
    if each.remaining == 0:
        job.num_unstarted -= 1
    each.recent_ms = duration_ms
    worker.stage, worker.last_stage, worker.busy = stage, stage, True
    row.busy_ms += duration_ms
    if row.num_noted < noted.shape[1]:
        note = noted[i, row.num_noted]
        note.executor, note.job, note.stage = executor, each.job, stage
        note.begin_ms, note.end_ms = row.now_ms, row.now_ms + duration_ms
        row.num_noted += 1
    return duration_ms


@_jit
def _run_tasks(world, state, i):  # type: ignore[no-untyped-def]
    """Let tasks end as long as their executors just go on with the next one of the stage.

    Nearly all events are these, and none of them changes a pool or asks a scheduler.
    """
    list_start, list_length, durations_ms = world[4]
    levels, (is_recording, _, warmup_delay_ms, _, _, reoffers) = world[5], world[6]
    rows, jobs, stages, executors, _, heap = state[:6]
    row = rows[i]
    until_ms = math.inf
    if row.num_arrived < row.num_jobs:
        until_ms = jobs[i, row.num_arrived].arrival_ms
    while row.num_events > 0 and not reoffers:
        time_ms, executor = heap[i, 0].time_ms, heap[i, 0].executor
        worker = executors[i, executor]
        if until_ms <= time_ms or not worker.busy or stages[i, worker.stage].remaining == 0:
            return
        row.now_ms = time_ms
        each = stages[i, worker.stage]
        each.completed += 1
        duration_ms = _begin(
            list_start, list_length, durations_ms, levels, is_recording, warmup_delay_ms,
            row, jobs, each, worker, worker.stage, i, executor, state[9],
        )  # fmt: skip
        _sift_down(heap, i, row.num_events, time_ms + duration_ms, row.next_order, executor)
        row.next_order += 1


# Events ------------------------------------------------------------------------------------------


@_jit
def _arrive_job(state, i):  # type: ignore[no-untyped-def]
    rows, jobs, pools, active = state[0], state[1], state[4], state[7]
    row = rows[i]
    row.now_ms = jobs[i, row.num_arrived].arrival_ms
    active[i, row.num_active] = row.num_arrived
    row.num_active += 1
    row.num_arrived += 1
    if pools[i, COMMON].size > 0:
        row.source = COMMON


@_jit
def _arrive_executor(world, state, i, executor):  # type: ignore[no-untyped-def]
    jobs, stages, each = state[1], state[2], state[3][i, executor]
    stage = each.stage
    each.job = stages[i, stage].job
    jobs[i, each.job].attached += 1
    stages[i, stage].moving -= 1
    _move_to_pool(state, i, executor, 1 + each.job)
    _go(world, state, i, executor, stage)


@_jit
def _complete_stage(world, state, i, stage):  # type: ignore[no-untyped-def]
    """Take a stage whose tasks are all complete away; return whether others may now begin."""
    child_offset, children = world[3][2], world[3][3]
    jobs, stages = state[1], state[2]
    each = stages[i, stage]
    first, changed = jobs[i, each.job].first_stage, False
    jobs[i, each.job].num_incomplete -= 1
    for place in range(child_offset[each.template], child_offset[each.template + 1]):
        child = stages[i, first + children[place]]
        child.waits_for -= 1
        changed = changed or child.waits_for == 0
    return changed


@_jit
def _complete_job(world, state, i, job):  # type: ignore[no-untyped-def]
    rows, jobs, executors, active = state[0], state[1], state[3], state[7]
    for executor in range(executors.shape[1]):
        if executors[i, executor].pool == 1 + job:
            _release(world, state, i, executor)
    place = 0
    while active[i, place] != job:
        place += 1
    rows[i].num_active -= 1
    rows[i].num_schedulable -= jobs[i, job].num_schedulable
    for later in range(place, rows[i].num_active):
        active[i, later] = active[i, later + 1]
    jobs[i, job].completion_ms = rows[i].now_ms
    rows[i].num_completed += 1


@_jit
def _finish_task(world, state, i, executor):  # type: ignore[no-untyped-def]
    """Handle the end of an executor's task, where its stage has no further task to begin."""
    rows, jobs, stages, each = state[0], state[1], state[2], state[3][i, executor]
    stage, pool = each.stage, each.pool
    job, changed = stages[i, stage].job, False
    if stages[i, stage].completed == stages[i, stage].num_tasks:
        changed = _complete_stage(world, state, i, stage)
        if jobs[i, job].num_incomplete == 0:
            _complete_job(world, state, i, job)
    place = _oldest_commitment(state, i, pool)
    if place >= 0:
        _fulfil(world, state, i, executor, place)
    else:
        each.last_stage = NO_STAGE
        if changed:
            _release(world, state, i, executor)
    if changed:
        rows[i].source = 1 + job
    elif place < 0:
        rows[i].source = pool


@_jit
def _next_event(world, state, i):  # type: ignore[no-untyped-def]
    """Let the next event happen; return False if there is none."""
    reoffers = world[6][5]
    rows, jobs, stages, pools, heap = state[0], state[1], state[2], state[4], state[5]
    row = rows[i]
    if row.num_arrived < row.num_jobs and (
        row.num_events == 0 or jobs[i, row.num_arrived].arrival_ms <= heap[i, 0].time_ms
    ):
        _arrive_job(state, i)
        return True
    if row.num_events == 0:
        return False
    executor = heap[i, 0].executor
    row.now_ms = heap[i, 0].time_ms
    each = state[3][i, executor]
    if not each.busy:
        _drop_first_event(rows, heap, i)
        _arrive_executor(world, state, i, executor)
        return True
    each.busy = False
    stages[i, each.stage].completed += 1
    if stages[i, each.stage].remaining > 0:
        end_ms = row.now_ms + _begin_task(world, state, i, executor, each.stage)
        _sift_down(heap, i, row.num_events, end_ms, row.next_order, executor)
        row.next_order += 1
    else:
        _drop_first_event(rows, heap, i)
        _finish_task(world, state, i, executor)
    if reoffers and _committable(rows, pools, i) <= 0 and pools[i, COMMON].size > 0:
        row.source = COMMON
    return True


# Rounds ------------------------------------------------------------------------------------------


@_jit
def _advance(world, state, i):  # type: ignore[no-untyped-def]
    """Let events happen until there is something to decide, or nothing ever will be."""
    rows, executors, pools = state[0], state[3], state[4]
    row = rows[i]
    while row.num_completed < row.num_jobs:
        _run_tasks(world, state, i)
        if not _next_event(world, state, i):
            row.deadlock = True
            break
        if _committable(rows, pools, i) <= 0:
            continue  # the source stays, and a later event may make it the subject of a round
        _refresh(world, state, i, -1)
        if row.num_schedulable > 0:
            return
        for executor in range(executors.shape[1]):
            if executors[i, executor].pool == row.source and not executors[i, executor].busy:
                _release(world, state, i, executor)
        row.source = NOWHERE
    row.done = True


@_jit
def _finish_round(world, state, i):  # type: ignore[no-untyped-def]
    """Commit the rest to the common pool and let the idle executors of the source go."""
    rows, executors, pools = state[0], state[3], state[4]
    row = rows[i]
    source = row.source
    _commit(state, i, NO_STAGE, _committable(rows, pools, i))
    for executor in range(executors.shape[1]):
        if executors[i, executor].pool == source and not executors[i, executor].busy:
            place = _oldest_commitment(state, i, source)
            if place < 0:
                break
            _fulfil(world, state, i, executor, place)
    row.source = NOWHERE
    row.round += 1


@_jit
def _stage_at(state, i, slot):  # type: ignore[no-untyped-def]
    """Return the row's stage in a place of the view, or -1 if there is none."""
    rows, jobs, stages, active = state[0], state[1], state[2], state[7]
    if slot < 0:
        return NO_STAGE
    for nth in range(rows[i].num_active):
        job = jobs[i, active[i, nth]]
        if slot >= job.num_incomplete:
            slot -= job.num_incomplete
            continue
        for stage in range(job.first_stage, job.first_stage + job.num_stages):
            if stages[i, stage].completed < stages[i, stage].num_tasks:
                if slot == 0:
                    return stage
                slot -= 1
    return NO_STAGE


@_jit
def _decide(world, state, i, slot, count):  # type: ignore[no-untyped-def]
    rows, jobs, stages, pools = state[0], state[1], state[2], state[4]
    active, active_before = state[7], state[8]
    row = rows[i]
    started_ms, arrived_before, num_before = row.now_ms, row.num_arrived, row.num_active
    row.reward_ms, row.invalid = 0.0, False
    stage = _stage_at(state, i, slot)
    if stage != NO_STAGE and not stages[i, stage].schedulable:
        stage = NO_STAGE
    if stage == NO_STAGE:
        row.invalid = slot >= 0
        _commit(state, i, NO_STAGE, _committable(rows, pools, i))
    else:
        count = min(count, _committable(rows, pools, i), _demand(stages[i, stage]))
        _commit(state, i, stage, count)
        stages[i, stage].selected = row.round
        _refresh(world, state, i, stages[i, stage].job)
        if row.num_schedulable > 0 and _committable(rows, pools, i) > 0:
            return
    for nth in range(num_before):
        active_before[i, nth] = active[i, nth]
    _finish_round(world, state, i)
    _advance(world, state, i)
    now_ms = row.now_ms
    if now_ms != started_ms:
        for nth in range(num_before):
            row.reward_ms -= min(jobs[i, active_before[i, nth]].completion_ms, now_ms) - started_ms
        for job in range(arrived_before, row.num_arrived):
            row.reward_ms -= min(jobs[i, job].completion_ms, now_ms) - jobs[i, job].arrival_ms


@_jit
def step_rows(world, state, slots, counts):  # type: ignore[no-untyped-def]
    """Take one decision in every row that is not done; done rows stand still.

    Args:
        world: Of `pack_arrays`.
        state: Of `new_state`, changed in place.
        slots: (N,) place of a stage among those in view, or -1 for no stage.
        counts: (N,) executors for it, at most.
    """
    for i in range(len(slots)):
        state[0][i].reward_ms, state[0][i].invalid = 0.0, False
        if not state[0][i].done:
            _decide(world, state, i, slots[i], counts[i])


@_jit
def begin_row(world, state, i, key, template, arrival_ms):  # type: ignore[no-untyped-def]
    """Begin an episode in one row and play to its first decision.

    Args:
        world: Of `pack_arrays`.
        state: Of `new_state`, changed in place.
        i: The row.
        key: Of the episode's durations.
        template: (J,) of each job.
        arrival_ms: (J,) rising.
    """
    stage_offset, num_tasks, rough_ms, (parent_offset, _, _, _) = world[:4]
    rows, jobs, stages, executors, pools = state[:5]
    row = rows[i]
    row.key, row.now_ms, row.reward_ms, row.busy_ms, row.round = key, 0.0, 0.0, 0.0, 1
    row.num_jobs, row.num_arrived, row.num_completed, row.num_active = len(template), 0, 0, 0
    row.num_schedulable, row.num_events, row.next_order, row.num_commitments = 0, 0, 0, 0
    row.num_noted = 0
    row.invalid, row.done, row.deadlock = False, False, False
    for pool in range(pools.shape[1]):
        pools[i, pool].size, pools[i, pool].committed = 0, 0
    stage = 0
    for number in range(len(template)):
        job, first = jobs[i, number], stage_offset[template[number]]
        job.template, job.first_stage = template[number], stage
        job.num_stages = stage_offset[template[number] + 1] - first
        job.num_incomplete, job.num_unstarted = job.num_stages, job.num_stages
        job.num_schedulable, job.supply, job.attached = 0, 0, 0
        job.arrival_ms, job.completion_ms, job.work_ms = arrival_ms[number], math.inf, 0.0
        for nth in range(job.num_stages):
            each, origin = stages[i, stage], first + nth
            each.key = _mix64(key + np.uint64(number * 65536 + nth + 1) * _GAMMA)
            each.template, each.job, each.num_tasks = origin, number, num_tasks[origin]
            each.remaining, each.completed = each.num_tasks, 0
            each.moving, each.committed, each.selected = 0, 0, 0
            each.waits_for = parent_offset[origin + 1] - parent_offset[origin]
            each.recent_ms, each.schedulable = rough_ms[origin], False
            job.work_ms += each.num_tasks * each.recent_ms
            stage += 1
    for executor in range(executors.shape[1]):
        each = executors[i, executor]
        each.pool, each.job, each.stage, each.last_stage = COMMON, -1, NO_STAGE, NO_STAGE
        each.busy = False
    pools[i, COMMON].size = executors.shape[1]
    while row.num_arrived < row.num_jobs and jobs[i, row.num_arrived].arrival_ms <= 0.0:
        _arrive_job(state, i)
    row.source = COMMON
    _refresh(world, state, i, -1)
    if row.num_schedulable == 0:
        _advance(world, state, i)


# What is seen ------------------------------------------------------------------------------------


@_jit
def count_view(world, state, counts):  # type: ignore[no-untyped-def]
    """Write (N, 3) stages, jobs and edges that each row's view has, edges at most."""
    stage_offset, child_offset = world[0], world[3][2]
    rows, jobs, active = state[0], state[1], state[7]
    for i in range(len(rows)):
        counts[i] = 0
        if rows[i].done:
            continue
        counts[i, 1] = rows[i].num_active
        for nth in range(rows[i].num_active):
            job = jobs[i, active[i, nth]]
            first = stage_offset[job.template]
            counts[i, 0] += job.num_incomplete
            counts[i, 2] += child_offset[first + job.num_stages] - child_offset[first]


@_jit
def fill_view(world, state, per_row, per_stage, per_job, edges, place_of):  # type: ignore[no-untyped-def]
    """Write what the rows' schedulers see, row after row; return how many edges there are.

    Args:
        world: Of `pack_arrays`.
        state: Of `new_state`.
        per_row: Arrays of `ROW_FIELDS`, in that order.
        per_stage: Arrays of `STAGE_FIELDS`.
        per_job: Arrays of `JOB_FIELDS`.
        edges: (L, 2), as long as `count_view` says.
        place_of: Room for the place of each stage of the largest job.
    """
    child_offset, children = world[3][2], world[3][3]
    rows, jobs, stages, executors, pools = state[:5]
    active = state[7]
    clock_ms, committable, source_job, num_executors, num_stages, num_jobs, num_edges = per_row
    remaining, demand, duration_ms, schedulable, stage_id, stage_job, stage_tasks = per_stage
    job_id, supply, arrival_ms, work_ms = per_job
    at_stage, at_job, at_edge = 0, 0, 0
    for i in range(len(rows)):
        row = rows[i]
        clock_ms[i], num_executors[i] = row.now_ms, executors.shape[1]
        committable[i], source_job[i] = 0, -1
        num_stages[i], num_jobs[i], num_edges[i] = 0, 0, 0
        if row.done:
            continue
        committable[i] = _committable(rows, pools, i)
        source = _job_of_pool(jobs, stages, i, row.source)
        begin, first_edge = at_stage, at_edge
        for nth in range(row.num_active):
            number = active[i, nth]
            job = jobs[i, number]
            if number == source:
                source_job[i] = nth
            job_id[at_job], supply[at_job] = number, job.supply
            arrival_ms[at_job], work_ms[at_job] = job.arrival_ms, job.work_ms
            at_job += 1
            for id_ in range(job.num_stages):
                each = stages[i, job.first_stage + id_]
                place_of[id_] = -1
                if each.completed == each.num_tasks:
                    continue
                place_of[id_] = at_stage - begin
                remaining[at_stage] = each.remaining
                demand[at_stage] = each.remaining - each.moving - each.committed
                duration_ms[at_stage], schedulable[at_stage] = each.recent_ms, each.schedulable
                stage_id[at_stage], stage_job[at_stage] = id_, nth
                stage_tasks[at_stage] = each.num_tasks
                at_stage += 1
            # A child cannot be complete before its parent.
            for id_ in range(job.num_stages):
                if place_of[id_] >= 0:
                    origin = stages[i, job.first_stage + id_].template
                    for place in range(child_offset[origin], child_offset[origin + 1]):
                        edges[at_edge, 0] = place_of[id_]
                        edges[at_edge, 1] = place_of[children[place]]
                        at_edge += 1
        num_stages[i], num_jobs[i] = at_stage - begin, row.num_active
        num_edges[i] = at_edge - first_edge
    return at_edge
