"""What a cluster is told as: against slow loops, and the same in a cluster of another size."""

from dataclasses import replace

import numpy as np
import pytest

from netllm_gym.data.cjs.workload import LEVELS, JobTemplate, Waves, Workload
from netllm_gym.envs.cjs.vector_env import CJSVectorEnv
from netllm_gym.policies.cjs_graph import NUM_JOB, NUM_ROW, NUM_STAGE, choices_of, graph_of
from tests.policies.llm.made_cjs import concatenate, empty_row
from tests.pools.made_cjs import made_view


def edges_of(view, row):
    """Return the (parent, child) stages of a row, numbered among all stages."""
    begin, end = view.edge_ptr[row], view.edge_ptr[row + 1]
    return [
        (int(p + view.stage_ptr[row]), int(c + view.stage_ptr[row]))
        for p, c in view.edges[begin:end]
    ]


@pytest.mark.parametrize("seed", range(4))
def test_levels_are_longest_paths_and_hold_every_edge_once(seed):
    view, _ = made_view(seed, num_steps=8)
    graph = graph_of(view)
    edges = [edge for row in range(len(view)) for edge in edges_of(view, row)]
    children = {}
    for parent, child in edges:
        children.setdefault(parent, []).append(child)

    def height(stage):
        return max((1 + height(child) for child in children.get(stage, [])), default=0)

    found = []
    for number, level in enumerate(graph.levels, start=1):
        assert all(height(stage) == number for stage in level.parents)
        assert len(set(level.parents.tolist())) == len(level.parents)
        parents = level.parents[level.slots].tolist()
        found += list(zip(parents, level.children.tolist(), strict=True))
    assert sorted(found) == sorted(edges)

    # The longest path to the end, in seconds: the 11th feature is its logarithm.
    def path_s(stage):
        row = view.stage_row[stage]
        own = view.duration_ms[stage] / 1000.0
        own = max(own, own * view.remaining[stage] / view.num_executors[row])
        return own + max((path_s(child) for child in children.get(stage, [])), default=0.0)

    expected = [np.log(path_s(stage) + 0.01) for stage in range(len(view.remaining))]
    np.testing.assert_allclose(graph.stage[:, 10], expected, rtol=1e-4, atol=1e-5)


def test_a_stage_is_numbered_among_those_of_its_job_that_can_be_chosen():
    view, _ = made_view(3, num_steps=6)
    graph = graph_of(view)
    nth = {}
    for stage in range(len(view.remaining)):
        job = int(graph.job_of[stage])
        nth[job] = nth.get(job, 0) + int(view.schedulable[stage])
        expected = 1.0 / nth[job] if view.schedulable[stage] else 0.0
        assert graph.stage[stage, 17] == pytest.approx(expected)


def test_features_are_the_same_in_a_cluster_twice_as_large():
    view, _ = made_view(5, num_steps=12, num_executors=12)
    twice = replace(
        view,
        num_executors=2 * view.num_executors,
        committable=2 * view.committable,
        remaining=2 * view.remaining,
        num_tasks=2 * view.num_tasks,
        demand=2 * view.demand,
        supply=2 * view.supply,
        work_ms=2 * view.work_ms,
    )
    one, other = graph_of(view), graph_of(twice)
    np.testing.assert_allclose(one.stage, other.stage, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(one.row, other.row, rtol=1e-5, atol=1e-6)
    # Whether a job has its equal share is rounded up to whole executors.
    rounded = np.arange(NUM_JOB) != 5
    np.testing.assert_allclose(one.job[:, rounded], other.job[:, rounded], rtol=1e-5, atol=1e-6)


def test_a_row_looks_the_same_alone_and_among_others():
    view, _ = made_view(2, num_steps=9)
    whole = graph_of(view)
    for row in range(len(view)):
        alone = graph_of(view.take([row]))
        stages = slice(view.stage_ptr[row], view.stage_ptr[row + 1])
        jobs = slice(view.job_ptr[row], view.job_ptr[row + 1])
        np.testing.assert_array_equal(alone.stage, whole.stage[stages])
        np.testing.assert_array_equal(alone.job, whole.job[jobs])
        np.testing.assert_array_equal(alone.row[0], whole.row[row])


def test_what_may_be_chosen_spelled_out():
    view, _ = made_view(4, num_steps=150, num_executors=6)
    choices = choices_of(concatenate(view, empty_row()))
    waits = 0
    for row in range(len(view)):
        stages = np.arange(view.stage_ptr[row], view.stage_ptr[row + 1])
        can = stages[view.schedulable[stages]]
        own = stages[view.stage_job[stages] == view.source_job[row]]
        unbegun = (view.remaining[own] == view.num_tasks[own]).any()
        may_wait = not len(can) or (unbegun and not view.schedulable[own].any())
        waits += bool(may_wait and len(can))
        n = len(can)
        assert choices.exists[row].tolist() == [c <= n for c in range(choices.exists.shape[1])]
        assert choices.allowed[row, 0] == may_wait
        assert choices.allowed[row, 1 : n + 1].all()
        assert not choices.allowed[row, n + 1 :].any()
        assert choices.stage[row, 1 : n + 1].tolist() == can.tolist()
        assert choices.place[row, : n + 1].tolist() == [-1, *(can - stages[0])]
        limits = [min(view.demand[s], view.committable[row]) for s in can]
        assert choices.limit[row, 1 : n + 1].tolist() == limits
    assert waits > 3
    assert choices.allowed[-1].tolist() == [True] + [False] * (choices.allowed.shape[1] - 1)


def test_sizes_are_those_that_the_encoders_expect():
    graph = graph_of(concatenate(empty_row(), made_view(1, num_steps=3)[0], empty_row()))
    assert graph.stage.shape[1] == NUM_STAGE
    assert graph.job.shape[1] == NUM_JOB
    assert graph.row.shape == (5, NUM_ROW)
    for features in (graph.stage, graph.job, graph.row):
        assert np.isfinite(features).all()
        assert np.abs(features).max() < 20.0


def random_workload(rng, num_templates=6, most_stages=8):
    """Return jobs whose stages depend on each other in any way."""

    def wave():
        return {level: rng.integers(1, 4000, rng.integers(1, 4)) for level in LEVELS}

    jobs = []
    for template, count in enumerate(rng.integers(1, most_stages + 1, num_templates)):
        edges = [(i, j) for j in range(count) for i in range(j) if rng.random() < 1.0 / count]
        durations = [Waves(wave(), wave(), wave()) for _ in range(count)]
        rough_ms = rng.uniform(100.0, 3000.0, count)
        tasks = rng.integers(1, 9, count)
        jobs.append(JobTemplate(f"job {template}", tasks, edges, durations, rough_ms))
    return Workload.of_jobs("made", jobs)


@pytest.mark.parametrize("seed", [4, 5, 9])
def test_whoever_always_waits_where_it_may_still_finishes(seed):
    rng = np.random.default_rng(seed)
    workload = random_workload(rng)
    num_envs = 30
    case = {"num_executors": 3 + 4 * seed, "num_jobs": 6, "mean_gap_s": 3.0}
    env = CJSVectorEnv(num_envs, workload, **case, padded=False, autoreset_mode="Disabled")
    view, _ = env.reset(seed=100 * seed)
    over, stuck, waited, rows = np.zeros(num_envs, bool), np.zeros(num_envs, bool), 0, np.arange(30)
    while not over.all():
        choices = choices_of(view)
        wish = rng.random(choices.allowed.shape) * choices.allowed
        chosen = np.where(choices.allowed[:, 0], 0, wish.argmax(axis=1))
        waited += int((choices.allowed[:, 0] & (view.num_stages > 0)).sum())
        number = (rng.random(num_envs) * choices.limit[rows, chosen]).astype(np.int64)
        actions = np.stack([choices.place[rows, chosen], number], axis=1)
        view, _, terminated, truncated, _ = env.step(actions)
        over, stuck = over | terminated | truncated, stuck | truncated
    assert waited > 20
    assert not stuck.any()
