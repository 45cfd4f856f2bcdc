"""Laws of the cluster that hold between any two decisions, whatever is decided."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netllm_gym.data.cjs.workload import JobTemplate, Waves, Workload
from netllm_gym.envs.cjs.batch import ClusterBatch
from netllm_gym.envs.cjs.cluster import BACKUPS, INTERPOLATIONS, ClusterConfig
from tests.test_readers import FEW, MANY

NOWHERE, COMMON = -1, 0  # pools; then one per job, then one per stage

# Whole and half seconds, so that much happens at one time.
DURATIONS = st.lists(st.integers(1, 8).map(lambda halves: 500 * halves), min_size=1, max_size=3)
MAYBE_NONE = st.one_of(st.just([]), DURATIONS)


@st.composite
def templates(draw):
    """Draw a job: any graph, any tasks, waves and levels that may be missing."""
    stages = draw(st.integers(1, 4))
    pairs = [(parent, child) for child in range(stages) for parent in range(child)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    tasks = draw(st.lists(st.integers(1, 5), min_size=stages, max_size=stages))
    waves = [
        Waves(
            *(
                {level: draw(each) for level in (5, 10)}
                for each in (MAYBE_NONE, DURATIONS, MAYBE_NONE)
            )
        )
        for _ in range(stages)
    ]
    return JobTemplate("job", tasks, edges, waves)


CONFIGS = st.builds(
    ClusterConfig,
    moving_delay_s=st.sampled_from([0.0, 0.5, 2.0]),
    warmup_delay_s=st.sampled_from([0.0, 1.0]),
    interpolation=st.sampled_from(INTERPOLATIONS),
    backup=st.sampled_from(BACKUPS),
    supply_forgets_idle=st.booleans(),
    reoffer_idle=st.booleans(),
)


@st.composite
def batches(draw):
    """Draw a cluster of one row and the jobs that it is sent."""
    jobs = draw(st.lists(templates(), min_size=1, max_size=3))
    return ClusterBatch(
        1,
        Workload.of_jobs("any", jobs),
        num_executors=draw(st.integers(1, 7)),
        num_jobs=draw(st.integers(1, 5)),
        mean_gap_s=draw(st.sampled_from([0.001, 2.0, 20.0])),
        cluster=draw(CONFIGS),
    )


class Cluster:
    """The state of a batch of one, as plain records."""

    def __init__(self, batch):
        rows, jobs, stages, executors, pools, events, promised, active = batch.state[:8]
        self.row, self.config, self.load = rows[0], batch.cluster, batch.workload
        self.jobs = jobs[0]
        self.num_stages = int(self.jobs["num_stages"].sum())
        self.stages = stages[0][: self.num_stages]
        self.executors, self.pools = executors[0], pools[0]
        self.events = events[0][: self.row["num_events"]]
        self.promised = promised[0][: self.row["num_commitments"]]
        self.active = active[0][: self.row["num_active"]].tolist()

    def job_of(self, pool):
        if pool <= COMMON:
            return -1
        if pool <= len(self.jobs):
            return pool - 1
        return self.stages[pool - 1 - len(self.jobs)]["job"]

    def stage_pool(self, stage):
        return 1 + len(self.jobs) + stage

    def parents(self, stage):
        """Return the row's stages that a stage waits for."""
        template = self.stages[stage]["template"]
        own = self.load.parents[slice(*self.load.parent_offset[template : template + 2])]
        return self.jobs[self.stages[stage]["job"]]["first_stage"] + own


def assert_executors_are_somewhere_once(now):
    """Every executor is in one pool or on its way, and has at most the one event it waits for."""
    for pool, sums in enumerate(now.pools):
        assert sums["size"] == sum(each["pool"] == pool for each in now.executors)
        assert sums["size"] >= 0
    moving = now.executors["pool"] == NOWHERE
    assert now.pools["size"].sum() + moving.sum() == len(now.executors)
    waited_for = sorted(now.events["executor"].tolist())
    busy_or_moving = np.flatnonzero(moving | now.executors["busy"])
    assert waited_for == busy_or_moving.tolist()
    assert not (moving & now.executors["busy"]).any()
    assert (now.events["time_ms"] >= now.row["now_ms"]).all()
    for executor in now.executors:
        # It belongs to the job in whose pool it is; in the common pool and on its way to none.
        assert executor["job"] == now.job_of(executor["pool"])
        if executor["busy"]:
            assert executor["pool"] == now.stage_pool(executor["stage"])
    for number, job in enumerate(now.jobs):
        assert job["attached"] == (now.executors["job"] == number).sum()


def assert_promises_are_kept(now):
    """What is committed is backed by executors of the pool and counted where it goes."""
    for pool, sums in enumerate(now.pools):
        promised = now.promised[now.promised["pool"] == pool]
        assert sums["committed"] == promised["count"].sum() <= sums["size"]
        assert len(set(promised["stage"].tolist())) == len(promised)
    assert (now.promised["count"] > 0).all()
    for number, stage in enumerate(now.stages):
        to_it = now.promised[now.promised["stage"] == number]
        assert stage["committed"] == to_it["count"].sum()
        on_their_way = (now.executors["pool"] == NOWHERE) & (now.executors["stage"] == number)
        assert stage["moving"] == on_their_way.sum()


def assert_tasks_add_up(now):
    """Tasks have not begun, run or are complete; none began before the stage's parents ended."""
    complete = now.stages["completed"] == now.stages["num_tasks"]
    for number, stage in enumerate(now.stages):
        running = (now.executors["busy"] & (now.executors["stage"] == number)).sum()
        assert stage["remaining"] + running + stage["completed"] == stage["num_tasks"]
        assert stage["remaining"] >= 0
        parents = now.parents(number)
        assert stage["waits_for"] == (~complete[parents]).sum()
        if stage["remaining"] < stage["num_tasks"]:
            assert complete[parents].all()
    for number, job in enumerate(now.jobs):
        own = slice(job["first_stage"], job["first_stage"] + job["num_stages"])
        assert job["num_incomplete"] == (~complete[own]).sum()
        assert job["num_unstarted"] == (now.stages["remaining"][own] > 0).sum()
        ended = bool(complete[own].all())
        assert math.isfinite(job["completion_ms"]) == ended
        assert (number in now.active) == (number < now.row["num_arrived"] and not ended)
    assert now.active == sorted(now.active)


def assert_supply_is_what_a_job_has_or_is_promised(now):
    """It has those attached, those on their way, and those that others' pools promised it."""
    for number, job in enumerate(now.jobs):
        own = now.stages["job"] == number
        promised = sum(
            int(each["count"])
            for each in now.promised
            if each["stage"] >= 0
            and now.stages[each["stage"]]["job"] == number
            and now.job_of(each["pool"]) != number
        )
        supply = job["attached"] + now.stages["moving"][own].sum() + promised
        if now.config.supply_forgets_idle:
            assert job["supply"] == supply
        else:
            assert job["supply"] >= supply


def assert_offers_are_as_the_rules_say(now, chosen, view):
    """Schedulable: wants executors, its parents do not, was not chosen, its job may have more."""
    assert view.committable[0] > 0
    assert view.schedulable.any()
    demand = now.stages["remaining"] - now.stages["moving"] - now.stages["committed"]
    np.testing.assert_array_equal(
        view.demand,
        [
            demand[now.jobs[job]["first_stage"] + stage]
            for job, stage in zip(view.job_id[view.stage_job], view.stage_id, strict=True)
        ],
    )
    source = now.job_of(now.row["source"])
    for place, offered in enumerate(view.schedulable):
        job = view.job_id[view.stage_job[place]]
        stage = now.jobs[job]["first_stage"] + view.stage_id[place]
        wanted = (
            demand[stage] > 0 and (demand[now.parents(stage)] <= 0).all() and stage not in chosen
        )
        room = job == source or now.jobs[job]["supply"] < len(now.executors)
        assert offered == (wanted and room)


def play(batch, seed, rng, idleness):
    """Play an episode at random, holding every law at each decision; return its parts."""
    outcome = batch.begin(np.ones(1, np.bool_), [seed], None, np.random.default_rng(0))
    total_s, decisions, clock_ms, chosen = 0.0, 0, -1.0, set()
    ended = False
    while not ended:
        now, view = Cluster(batch), batch.view()
        for law in (
            assert_executors_are_somewhere_once,
            assert_promises_are_kept,
            assert_tasks_add_up,
            assert_supply_is_what_a_job_has_or_is_promised,
        ):
            law(now)
        assert_offers_are_as_the_rules_say(now, chosen, view)
        place = -1
        if rng.random() >= idleness:
            place = rng.choice(np.flatnonzero(view.schedulable))
            job = now.jobs[view.job_id[view.stage_job[place]]]
            chosen.add(int(job["first_stage"] + view.stage_id[place]))
        before_ms, turn = float(now.row["now_ms"]), int(now.row["round"])
        assert before_ms >= clock_ms  # time never goes back
        executors = rng.integers(0, batch.num_executors)
        outcome = batch.step(np.array([[place, executors]]))
        if batch.state.rows[0]["round"] != turn:
            chosen.clear()
        clock_ms, decisions, total_s = before_ms, decisions + 1, total_s + outcome.reward[0]
        ended = outcome.terminated[0] or outcome.truncated[0]
    now = Cluster(batch)
    assert_executors_are_somewhere_once(now)
    assert_tasks_add_up(now)
    return outcome, total_s, decisions


def return_of(batch, seed, rng, idleness, keeps_to_masks=False, most=None):
    """Return the return of an episode that is played at random, and whether it deadlocked."""
    outcome = batch.begin(np.ones(1, np.bool_), [seed], None, np.random.default_rng(0))
    total_s = 0.0
    while not batch.done[0]:
        schedulable = np.flatnonzero(outcome.observation.schedulable)
        place = -1
        if rng.random() >= idleness or (keeps_to_masks and not batch.may_wait()[0]):
            place = rng.choice(schedulable)
        executors = rng.integers(0, most or batch.num_executors)
        outcome = batch.step(np.array([[place, executors]]))
        total_s += outcome.reward[0]
    return total_s, bool(outcome.truncated[0])


@pytest.mark.parametrize("examples", [4 * FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_no_episode_that_deadlocks_returns_more_than_one_that_does_not(examples):
    @settings(max_examples=examples)
    @given(batches(), st.integers(0, 10**6))
    def body(batch, seed):
        rng = np.random.default_rng(seed)
        played = [return_of(batch, seed, rng, idle) for idle in (0, 0.1, 0.3, 0.3, 0.6, 0.6, 1)]
        played += [return_of(batch, seed, rng, 0, most=1)]  # one executor at a time, which is slow
        complete = [total_s for total_s, deadlocked in played if not deadlocked]
        stuck = [total_s for total_s, deadlocked in played if deadlocked]
        assert max(stuck, default=-np.inf) <= min(complete)

    body()


@pytest.mark.parametrize("examples", [6 * FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_an_episode_that_keeps_to_the_masks_is_never_truncated(examples):
    @settings(max_examples=examples)
    @given(batches(), st.integers(0, 10**6), st.sampled_from([0.3, 0.7, 1.0]))
    def body(batch, seed, idleness):
        rng = np.random.default_rng(seed)
        assert not return_of(batch, seed, rng, idleness, keeps_to_masks=True)[1]

    body()


def most_decisions(batch):
    """Return a bound that no schedule passes.

    A round opens at the source that a job's arrival or a task's end left behind, and then forgets
    it; so there are no more than 1 + arrivals + tasks. Each decision of a round commits an
    executor to a stage that was not chosen in it, or ends it.
    """
    stages = batch.state.stages[0][: int(batch.state.jobs[0]["num_stages"].sum())]
    rounds = 1 + batch.num_jobs + int(stages["num_tasks"].sum())
    return rounds * min(batch.num_executors, len(stages))


@pytest.mark.parametrize("examples", [6 * FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_whatever_is_decided_the_laws_hold_and_the_episode_ends(examples):
    @settings(max_examples=examples)
    @given(batches(), st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.5]))
    def body(batch, seed, idleness):
        outcome, total_s, decisions = play(batch, seed, np.random.default_rng(seed), idleness)
        assert decisions <= most_decisions(batch)
        jct_s = outcome.info["jct_list_s"][0]
        if outcome.terminated[0]:
            np.testing.assert_allclose(total_s, -jct_s.sum(), rtol=1e-12)
            assert (jct_s > 0).all()
            assert outcome.info["jct_s"][0] == pytest.approx(jct_s.mean())
            now = batch.state.rows[0]["now_ms"]
            assert outcome.info["makespan_s"][0] == now / 1000.0
            assert 0.0 < outcome.info["utilisation"][0] <= 1.0 + 1e-12
        else:
            assert idleness > 0.0  # nothing else can bring it about
            assert not np.isfinite(jct_s).all()
            assert np.isfinite(total_s)

    body()
