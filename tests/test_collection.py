"""Collected pools: common episodes, equal bytes however they were made, nothing lost."""

import numpy as np
import pytest

from netllm_gym import collection as collecting
from netllm_gym.collection import collect
from netllm_gym.data.pool import ExperiencePool
from netllm_gym.errors import InputError

CASE = {"traces": "synthetic", "video": "synthetic"}


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(collecting, "SHARD_EPISODES", 3)


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
        ({"policies": []}, "policies must be different names"),
        ({"policies": ["bba", "bba"]}, "policies must be different names"),
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
    with pytest.raises(InputError, match="episodes"):
        collect("abr", ["bba"], 3, tmp_path / "pool", CASE)
    assert files(tmp_path / "pool") == before
