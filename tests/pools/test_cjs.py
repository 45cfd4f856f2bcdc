"""Cluster views in a pool: exact, small, and refused where they are no episode's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from netllm_gym.envs.cjs.observation import ClusterView
from netllm_gym.errors import InputError
from netllm_gym.pools import cjs
from netllm_gym.pools.shard import pack_shard, parse_shard
from netllm_gym.pools.windows import PaddedEpisodes, Windows
from tests.pools.made_cjs import assert_equal_views, made_cluster_episode, made_view


def two_decisions():
    """One job of two stages, 0 -> 1; stage 0 is complete at the second decision."""
    return ClusterView(
        clock_ms=np.array([0.0, 2500.5]),
        committable=np.array([5, 3], np.int32),
        source_job=np.array([-1, 0], np.int32),
        num_executors=np.array([5, 5], np.int32),
        num_stages=np.array([2, 1], np.int32),
        num_jobs=np.array([1, 1], np.int32),
        num_edges=np.array([1, 0], np.int32),
        remaining=np.array([3, 4, 4], np.int32),
        demand=np.array([3, 4, 2], np.int32),
        duration_ms=np.array([100.0, 200.0, 200.0], np.float32),
        schedulable=np.array([True, False, True]),
        stage_id=np.array([0, 1, 1], np.int32),
        stage_job=np.zeros(3, np.int32),
        num_tasks=np.array([3, 4, 4], np.int32),
        job_id=np.array([7, 7], np.int32),
        supply=np.array([0, 5], np.int32),
        arrival_ms=np.array([0.0, 0.0]),
        work_ms=np.array([1100.0, 1100.0], np.float32),
        edges=np.array([[0, 1]], np.int32),
    )


def test_columns_hold_what_is_fixed_once_and_of_the_rest_the_changes():
    columns = cjs.to_columns(two_decisions())
    expected = {
        "job_id": [7],
        "job_num_stages": [2],
        "stage_id": [0, 1],
        "stage_num_tasks": [3, 4],
        "stage_first": [0, 0],
        "stage_steps": [1, 2],
        "remaining_change": [3, 4, 0],  # stage 0: 3; stage 1: 4, then 4 again
        "promised_change": [0, 0, 2],  # stage 1: nobody promised, then 2
        "schedulable_change": [True, False, True],
        "duration_is_new": [True, True, False],
        "duration_ms": [100.0, 200.0],
        "supply_change": [0, 5],
        "edges": [[0, 1]],
    }
    for name, values in expected.items():
        assert columns[name].tolist() == values, name
    assert_equal_views(cjs.from_columns(columns), two_decisions())


@pytest.mark.parametrize("seed", range(6))
def test_views_come_back_bit_for_bit(seed):
    view, _ = made_view(seed, num_steps=1 + 40 * seed, num_jobs=2 + seed)
    odd = view.duration_ms.copy()
    odd[:3] = [-0.0, np.nan, np.inf][: len(odd)]
    for each in (view, replace(view, duration_ms=odd)):
        assert_equal_views(cjs.from_columns(cjs.to_columns(each)), each)


def test_episodes_of_different_sizes_share_a_shard():
    episodes = [made_cluster_episode(seed, num_steps=5 + 90 * seed) for seed in range(3)]
    shard = parse_shard(pack_shard(episodes, cjs).data, Path("shard"))
    for index, episode in enumerate(episodes):
        found = shard.episode(index, cjs)
        assert_equal_views(found.observations, episode.observations)
        np.testing.assert_array_equal(found.actions, episode.actions, strict=True)


def test_a_pool_is_small_whatever_the_number_of_stages_in_sight():
    episode = made_cluster_episode(1, num_steps=800, num_executors=50, num_jobs=60)
    view = episode.observations
    entries = len(view.remaining) + len(view.job_id) + len(view.edges)
    assert entries > 40 * len(view)
    # Raw, an entry takes about 20 bytes; what changes of it takes about one.
    assert len(pack_shard([episode], cjs).data) < 2.0 * entries


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (lambda v: v.take([0, 1, 0]), "num_stages"),  # stage 0 comes back
        (lambda v: v.take([1, 0]), None),
        (lambda v: replace(v, num_tasks=np.array([3, 4, 5], np.int32)), "num_tasks"),
        (lambda v: replace(v, work_ms=np.array([1.0, 2.0], np.float32)), "work_ms"),
        (lambda v: replace(v, edges=np.array([[1, 0]], np.int32)), None),
        (lambda v: replace(v, num_executors=v.num_executors.astype(np.int64)), "num_executors"),
        (
            lambda v: replace(v, num_edges=np.zeros(2, np.int32), edges=v.edges[:0]).take([0, 0]),
            None,
        ),
    ],
)
def test_views_that_are_no_episode_are_refused_or_come_back(spoil, field):
    view = spoil(two_decisions())
    if field is None:  # odd, and yet exact
        assert_equal_views(cjs.from_columns(cjs.to_columns(view)), view)
        return
    with pytest.raises(InputError, match=f"{field}"):
        cjs.to_columns(view)


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("clock_ms", np.zeros(2, np.float32), "clock_ms must be float64"),
        ("committable", np.zeros(3, np.int64), "committable must have 2 rows as clock_ms, got 3"),
        ("edges", np.array([[0, 2]]), r"edges must be in 0\.\.1, in rising order"),
        ("edges", np.array([0, 1]), r"edges must be whole numbers of shape \(L, 2\)"),
        ("stage_steps", np.array([1, 3]), "stage_steps must be at least 1 and end within 2"),
        ("stage_steps", np.array([1, 1]), "remaining_change must hold one value for each"),
        ("stage_first", np.array([-1, 0]), "stage_first must be at least 0"),
        ("job_num_stages", np.array([3]), "job_num_stages must be at least 1 and sum to 2"),
        ("supply_change", np.zeros(3, np.int64), "supply_change must have 2 rows"),
        ("duration_is_new", np.array([True, False, True]), "duration_ms must hold one value for"),
    ],
)
def test_wrong_columns_are_one_sentence(name, values, sentence):
    columns = {**cjs.to_columns(two_decisions()), name: values}
    with pytest.raises(InputError, match=sentence):
        cjs.from_columns(columns)


def test_other_observations_and_missing_columns_are_refused():
    with pytest.raises(InputError, match="observations must be a ClusterView, got ndarray"):
        cjs.to_columns(np.zeros((3, 6, 6)))
    columns = cjs.to_columns(two_decisions())
    columns.pop("edges")
    with pytest.raises(InputError, match=r"columns must be clock_ms, .* got "):
        cjs.from_columns(columns)


@pytest.mark.parametrize("num_steps", [1, 4])
def test_windows_over_ragged_episodes_pad_nothing_and_stay_inside(num_steps):
    episodes = [made_cluster_episode(seed, num_steps=3 + 4 * seed) for seed in range(3)]
    padded = PaddedEpisodes.of(episodes)
    assert len(padded.seen) == sum(episode.num_steps for episode in episodes)
    windows = Windows(padded, padded.returns_to_go(), num_steps)
    rows = np.random.default_rng(0).permutation(len(windows))
    batch = windows.batch(rows)
    expected = []
    for window in rows:
        episode, start = int(windows.episode[window]), int(windows.start[window])
        steps = range(start, min(start + num_steps, episodes[episode].num_steps))
        expected += [episodes[episode].observations.take([step]) for step in steps]
    assert_equal_views(batch["observations"], ClusterView.concatenate(expected))
    assert len(batch["observations"]) == batch["mask"].sum()
    assert batch["actions"].shape == (len(rows), num_steps, 2)


def test_an_episode_has_as_many_views_as_rewards():
    episode = made_cluster_episode(0, num_steps=4)
    with pytest.raises(InputError, match="observations must have 4 steps as rewards, got 3"):
        replace(episode, observations=episode.observations.take([0, 1, 2]))
