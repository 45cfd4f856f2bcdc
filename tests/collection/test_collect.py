"""Collected pools: common episodes, equal bytes however they were made, nothing lost."""

from dataclasses import replace

import numpy as np
import pytest

from netllm_gym.collection.collect import collect
from netllm_gym.data.abr.sets import load_trace_set
from netllm_gym.errors import InputError
from netllm_gym.pools.pool import ExperiencePool
from netllm_gym.problems.index import PROBLEMS
from tests.policies.made_folders import read_every_folder

CASE = {"traces": "synthetic", "video": "synthetic"}


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setitem(PROBLEMS, "abr", replace(PROBLEMS["abr"], shard_episodes=3))


def test_a_limit_collects_nothing(tmp_path):
    case = {"workload": "synthetic", "num_executors": 4, "num_jobs": 2}
    with pytest.raises(InputError, match="policies must be ones that play, got bound, a limit"):
        collect("cjs", ["fair", "bound"], 1, tmp_path / "pool", case)
    assert not (tmp_path / "pool").exists()


def test_clusters_are_collected_alike_in_any_number_of_processes(tmp_path):
    case = {"workload": "synthetic", "num_executors": 4, "num_jobs": 3}
    one = collect("cjs", ["fair", "random"], 7, tmp_path / "one", case)
    collect("cjs", ["fair", "random"], 7, tmp_path / "two", case, workers=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert {episode.case["num_jobs"] for episode in one.episodes} == {3}
    assert one.env_spec["worlds"]["recordings"] == sorted(
        {episode.case["arrivals"] for episode in one.episodes}
    )


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_all_policies_play_the_same_episodes(tmp_path):
    pool = collect("abr", ["bba", "lowest"], 4, tmp_path / "pool", CASE, seed=10)
    played = {}
    for episode in pool.episodes:
        played.setdefault(episode.policy, []).append(episode)
    assert [episode.seed for episode in played["bba"]] == [10, 11, 12, 13]
    for one, other in zip(played["bba"], played["lowest"], strict=True):
        assert one.case == other.case
        np.testing.assert_array_equal(one.observations[0], other.observations[0])
    worlds = pool.env_spec["worlds"]
    assert worlds["traces"] == "synthetic"
    assert len(worlds["recordings"]) == 100


def test_interrupted_and_resumed_gives_equal_bytes(tmp_path):
    collect("abr", ["bba", "lowest"], 7, tmp_path / "whole", CASE)

    class KilledError(Exception):
        pass

    def stop_after_seven(done, total):
        assert total == 14
        if done >= 7:
            raise KilledError

    with pytest.raises(KilledError):
        collect("abr", ["bba", "lowest"], 7, tmp_path / "cut", CASE, on_episode=stop_after_seven)
    with pytest.raises(InputError, match="must be finished"):
        ExperiencePool.load(tmp_path / "cut")
    collect("abr", ["bba", "lowest"], 7, tmp_path / "cut", CASE)
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def test_broken_shard_is_made_again(tmp_path):
    collect("abr", ["bba"], 5, tmp_path / "pool", CASE)
    before = files(tmp_path / "pool")
    shard = tmp_path / "pool/shard-00001.npz"
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"shard-00001.npz"):
        ExperiencePool.load(tmp_path / "pool")
    collect("abr", ["bba"], 5, tmp_path / "pool", CASE)
    assert files(tmp_path / "pool") == before


def test_number_of_processes_does_not_change_the_bytes(tmp_path):
    collect("abr", ["random", "bba"], 4, tmp_path / "one", CASE | {"noise": True})
    collect("abr", ["random", "bba"], 4, tmp_path / "two", CASE | {"noise": True}, workers=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"episodes": 0}, "episodes must be at least 1, got 0"),
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"seed": 2**63 - 2}, r"seed plus episodes must be below 2\*\*63, got 9223372036854775806"),
        ({"policies": []}, "policies must name at least one"),
        ({"policies": ["bba", "bba"]}, "policies must have different names, got 'bba' 2 times"),
        ({"policies": ["bba", "nobody"]}, "policy must be a folder or one of .*'nobody'"),
        ({"case": {"traces": "nowhere"}}, "traces must be a folder or one of"),
        ({"case": {"traces": "synthetic", "noise": (2.0, 1.0)}}, "noise must be two factors"),
    ],
)
def test_nonsense_is_refused_and_nothing_written(tmp_path, change, sentence):
    arguments = {"policies": ["bba"], "episodes": 2, "case": CASE, "seed": 0, "workers": 1} | change
    with pytest.raises(InputError, match=sentence):
        collect("abr", out=tmp_path / "pool", **arguments)
    assert not (tmp_path / "pool").exists()


def test_other_plan_in_the_same_folder_is_refused(tmp_path):
    collect("abr", ["bba"], 2, tmp_path / "pool", CASE)
    before = files(tmp_path / "pool")
    for episodes, traces, sentence in (
        (9, "synthetic", "got episodes 2 in the pool and 9 asked for"),
        (2, "synthetic~1", "got traces 'synthetic' in the pool and 'synthetic~1' asked for"),
    ):
        with pytest.raises(InputError, match=f"same options to be continued, {sentence}"):
            collect("abr", ["bba"], episodes, tmp_path / "pool", {**CASE, "traces": traces})
    assert files(tmp_path / "pool") == before


def test_recordings_are_read_once_for_all_shards(tmp_path, monkeypatch):
    read = []

    def load(name):
        if isinstance(name, str):
            read.append(name)
        return load_trace_set(name)

    monkeypatch.setattr("netllm_gym.envs.abr.batch.load_trace_set", load)
    many = 3 * PROBLEMS["abr"].shard_episodes
    collect("abr", ["bba"], many, tmp_path / "pool", {"traces": "synthetic~1"})
    assert read == ["synthetic~1"] * 2  # the probe of the command, and the shards


def test_highest_seeds_can_be_collected(tmp_path):
    pool = collect("abr", ["lowest"], 2, tmp_path / "pool", CASE, seed=2**63 - 3)
    assert [episode.seed for episode in pool.episodes] == [2**63 - 3, 2**63 - 2]


def test_pool_of_trained_teachers_inherits_what_they_saw(tmp_path, monkeypatch):
    read_every_folder(
        monkeypatch,
        lambda name: {
            "recordings": [f"seen by {name}", "seen by all"],
            "validation_recordings": ["chosen on"],
        },
    )
    folders = [tmp_path / part for part in ("one/b", "one/a", "two/a")]
    for folder in folders:
        folder.mkdir(parents=True)
    names = [str(folder) for folder in folders]
    pool = collect("abr", ["bba", *names[:2]], 1, tmp_path / "pool", CASE)
    seen = ["chosen on", "seen by a", "seen by all", "seen by b"]
    assert pool.env_spec["teachers_recordings"] == seen
    rules = collect("abr", ["bba"], 1, tmp_path / "rules", CASE)
    assert "teachers_recordings" not in rules.env_spec
    with pytest.raises(InputError, match="different names, got 'a' 2 times"):
        collect("abr", names, 1, tmp_path / "refused", CASE)
    # The same command with other weights in a folder would go on with other episodes.
    (folders[0] / "policy.safetensors").write_bytes(b"trained again")
    with pytest.raises(InputError, match=r"got teachers_sha256\.b '.*' in the pool and '"):
        collect("abr", ["bba", *names[:2]], 1, tmp_path / "pool", CASE)
    assert not (tmp_path / "refused").exists()
