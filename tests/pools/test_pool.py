"""Pools on disk: what goes in comes out, what is broken is named, what was killed is resumed."""

import dataclasses
import hashlib
import io
import json
import pickle
import stat
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netllm_gym import files
from netllm_gym.errors import InputError
from netllm_gym.pools import abr
from netllm_gym.pools.pool import ExperiencePool, PoolWriter, shard_name
from netllm_gym.pools.shard import pack_shard, parse_shard
from tests.pools.made import RAGGED, assert_equal_episodes, made_episode, members, zipped

PLAN = {"num_shards": 3, "policies": ["bba", "mpc"], "seed": 1}
ENV = {"traces": "synthetic", "noise": [0.9, 1.1]}
SHARDS = [  # episodes of each shard
    [
        made_episode(4 * number + nth, 3 + 2 * nth + number, ("bba", "mpc")[nth % 2])
        for nth in range(4)
    ]
    for number in range(3)
]
EPISODES = [episode for shard in SHARDS for episode in shard]


def write_pool(folder, plan=PLAN, shards=SHARDS, **more):
    """Collect: open, write what is missing."""
    writer = PoolWriter(folder, "abr", ENV, plan, **more)
    for number in writer.missing():
        writer.write(number, shards[number])
    return writer


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path):
    write_pool(tmp_path / "pool")
    return tmp_path / "pool"


# What goes in comes out --------------------------------------------------------------------------


def test_a_pool_gives_back_what_was_written(folder):
    pool = ExperiencePool.load(folder, problem="abr")
    assert (pool.problem, pool.env_spec, pool.plan) == ("abr", ENV, PLAN)
    assert (len(pool), len(pool.episodes)) == (12, 12)
    assert pool.num_steps == sum(episode.num_steps for episode in EPISODES)
    assert pool.policies == ("bba", "mpc")
    assert pool.finished
    for found, expected in zip(pool.episodes, EPISODES, strict=True):
        assert_equal_episodes(found, expected)


def test_episodes_are_a_sequence(folder):
    episodes = ExperiencePool.load(folder).episodes
    for index in (0, 3, 4, 11, -1, -12, 7):
        assert_equal_episodes(episodes[index], EPISODES[index])
    for found, expected in zip(episodes[3:10:3], EPISODES[3:10:3], strict=True):
        assert_equal_episodes(found, expected)
    with pytest.raises(IndexError):
        episodes[12]


def test_columns_of_the_whole_pool(folder):
    pool = ExperiencePool.load(folder)
    names = ("lengths", "seeds", "terminated", "truncated", "policy", "actions", "rewards")
    found = pool.columns(*names, "info.rebuffer_s", "column.sizes_mb")
    assert found["lengths"].tolist() == [episode.num_steps for episode in EPISODES]
    assert found["seeds"].tolist() == [episode.seed for episode in EPISODES]
    assert found["terminated"].tolist() == [episode.terminated for episode in EPISODES]
    assert found["truncated"].tolist() == [episode.truncated for episode in EPISODES]
    assert [pool.policies[one] for one in found["policy"]] == [one.policy for one in EPISODES]
    flat = {
        "actions": [episode.actions for episode in EPISODES],
        "rewards": [episode.rewards for episode in EPISODES],
        "info.rebuffer_s": [episode.infos["rebuffer_s"] for episode in EPISODES],
        "column.sizes_mb": [episode.observations[:, 4] for episode in EPISODES],
    }
    for name, parts in flat.items():
        np.testing.assert_array_equal(found[name], np.concatenate(parts), strict=True)
    with pytest.raises(InputError, match=r"columns must be among lengths, .* got 'reward'"):
        pool.columns("reward")


def test_policy_index_is_that_of_the_pool_in_every_shard(tmp_path):
    shards = [[made_episode(0, policy="mpc")], [made_episode(1, policy="bba")]]
    write_pool(tmp_path / "pool", {"num_shards": 2}, shards)
    pool = ExperiencePool.load(tmp_path / "pool")
    assert pool.columns("policy")["policy"].tolist() == [1, 0]
    assert pool.summary().policies["mpc"].mean_return == pytest.approx(shards[0][0].rewards.sum())


def test_summary_counts_per_policy(folder):
    summary = ExperiencePool.load(folder).summary()
    assert (summary.problem, summary.num_shards, summary.num_planned) == ("abr", 3, 3)
    assert summary.num_bytes == sum(
        len(data) for name, data in content(folder).items() if "npz" in name
    )
    for name in ("bba", "mpc"):
        mine = [episode for episode in EPISODES if episode.policy == name]
        steps = sum(episode.num_steps for episode in mine)
        paid = sum(episode.rewards.sum() for episode in mine)
        assert summary.policies[name][:2] == (len(mine), steps)
        assert summary.policies[name].mean_return == pytest.approx(paid / len(mine))
        assert summary.policies[name].mean_reward == pytest.approx(paid / steps)


def test_a_pool_of_another_problem_brings_its_codec(tmp_path):
    with pytest.raises(InputError, match="problem must be one of abr, cjs, got 'toy'"):
        PoolWriter(tmp_path / "pool", "toy", {}, {"num_shards": 1})
    assert not (tmp_path / "pool").exists()
    writer = PoolWriter(tmp_path / "pool", "toy", {}, {"num_shards": 1}, codec=RAGGED)
    made = dataclasses.replace(made_episode(num_steps=1), observations=[np.ones((3, 2))])
    writer.write(0, [made])
    found = ExperiencePool.load(tmp_path / "pool", "toy", codec=RAGGED).episodes[0]
    np.testing.assert_array_equal(found.observations, made.observations)
    with pytest.raises(InputError, match="pool: problem must be one of abr, cjs, got 'toy'"):
        ExperiencePool.load(tmp_path / "pool")


def test_numpy_opens_a_shard_without_pickle(folder):
    with np.load(folder / shard_name(0), allow_pickle=False) as shard:
        np.testing.assert_array_equal(
            shard["rewards"], np.concatenate([episode.rewards for episode in SHARDS[0]])
        )
        assert shard["lengths"].tolist() == [3, 5, 7, 9]


def test_what_was_read_cannot_be_overwritten(folder):
    episode = ExperiencePool.load(folder).episodes[0]
    for values in (episode.rewards, episode.actions, episode.infos["rebuffer_s"]):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0


def test_iterating_holds_one_shard_at_a_time(tmp_path):
    shards = [[made_episode(seed, 50, infos=()) for seed in range(100)]] * 20
    write_pool(tmp_path / "pool", {"num_shards": 20}, shards)
    pool = ExperiencePool.load(tmp_path / "pool")
    tracemalloc.start()
    one = parse_shard((tmp_path / "pool" / shard_name(0)).read_bytes(), Path("one"))
    shard_bytes = tracemalloc.get_traced_memory()[0]
    del one
    tracemalloc.reset_peak()
    assert sum(episode.num_steps for episode in pool.episodes) == 20 * 100 * 50
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 4 * shard_bytes  # the file, its arrays and an episode; not 20 shards


# Writing -----------------------------------------------------------------------------------------


def test_equal_runs_give_equal_bytes(tmp_path, monkeypatch):
    write_pool(tmp_path / "one")
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))
    write_pool(tmp_path / "two")
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_the_order_of_writing_does_not_matter(tmp_path):
    write_pool(tmp_path / "one")
    writer = PoolWriter(tmp_path / "two", "abr", ENV, dict(reversed(PLAN.items())))
    for number in (2, 0, 1):
        writer.write_packed(number, pack_shard(SHARDS[number], abr))  # as a worker would
    assert content(tmp_path / "one") == content(tmp_path / "two")


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the package catches it."""


# Seven files are put in place: meta.json, then three times a shard and meta.json.
KILL_POINTS = [(nth, when) for nth in range(7) for when in ("half written", "before", "after")]


@pytest.mark.parametrize(("nth", "when"), KILL_POINTS)
def test_a_killed_run_resumes_to_the_same_bytes(tmp_path, monkeypatch, nth, when):
    write_pool(tmp_path / "whole")
    placed = []
    replace, fsync, write = Path.replace, files.os.fsync, PoolWriter.write

    def killing_replace(self, target):
        if when == "before" and len(placed) == nth:
            raise Killed
        replace(self, target)
        placed.append(target)
        if when == "after" and len(placed) == nth + 1:
            raise Killed

    def killing_fsync(handle):
        if when == "half written" and len(placed) == nth and is_file(handle):
            files.os.ftruncate(handle, 5)
            raise Killed
        fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killing_replace)
        patch.setattr(files.os, "fsync", killing_fsync)
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # a killed run takes nothing away
        with pytest.raises(Killed):
            write_pool(tmp_path / "killed")
    known = max(len(placed) - 1, 0) // 2  # shards that meta.json spoke of when the run was killed
    if known:
        assert len(ExperiencePool.load(tmp_path / "killed", allow_unfinished=True)) == 4 * known
    written = []

    def noted_write(self, number, episodes):
        written.append(number)
        write(self, number, episodes)

    monkeypatch.setattr(PoolWriter, "write", noted_write)
    write_pool(tmp_path / "killed")
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    assert written == list(range(known, 3))


def is_file(handle):
    return stat.S_ISREG(files.os.fstat(handle).st_mode)


def test_a_finished_pool_is_not_written_again(folder):
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    writer = write_pool(folder)
    assert writer.missing() == []
    assert before == {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.mark.parametrize("damage", ["delete", "truncate", "flip"])
def test_only_a_broken_shard_is_written_anew(folder, damage):
    before, path = content(folder), folder / shard_name(1)
    harm(path, damage)
    writer = PoolWriter(folder, "abr", ENV, PLAN)
    assert writer.missing() == [1]
    assert [writer.has(number) for number in range(3)] == [True, False, True]
    writer.write(1, SHARDS[1])
    assert content(folder) == before


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"plan": PLAN | {"seed": 8, "num_shards": 9}},
            "same options .* got seed 1 in the pool and 8 asked for: choose another folder",
        ),
        ({"plan": PLAN | {"num_shards": 9}}, "got num_shards 3 in the pool and 9 asked for"),
        ({"plan": PLAN | {"seed": True}}, "got seed 1 in the pool and True asked for"),
        ({"plan": PLAN | {"more": 1}}, "got more none in the pool and 1 asked for"),
        ({"plan": {"num_shards": 3}}, "got policies .* in the pool and none asked for"),
        (
            {"env_spec": {"sha256": "x", "arguments": ENV | {"traces": "fcc-test"}}},
            "got arguments none in the pool and {.*} asked for",
        ),
        ({"env_spec": ENV | {"traces": "fcc-test"}}, "got traces 'synthetic' in the pool and 'fcc"),
        (
            {"problem": "cjs", "codec": RAGGED},
            "must be a pool of cjs to resume, got one of abr",
        ),
        ({"plan": {"num_shards": 0}}, "num_shards must be in 1..100000, got 0"),
        ({"plan": {}}, r"plan must have num_shards, got \[\]"),
        ({"plan": PLAN | {"seed": {1, 2}}}, "plan must be a dict of JSON values: "),
        ({"plan": PLAN | {"seed": float("nan")}}, "plan must be a dict of JSON values: "),
        ({"env_spec": [1]}, "env_spec must be a dict of JSON values: "),
    ],
)
def test_another_plan_is_refused_and_nothing_is_written(folder, change, sentence):
    before = content(folder)
    with pytest.raises(InputError, match=sentence):
        PoolWriter(**{"folder": folder, "problem": "abr", "env_spec": ENV, "plan": PLAN} | change)
    assert content(folder) == before


def test_a_plan_of_tuples_is_the_plan_that_json_gives_back(folder):
    writer = PoolWriter(folder, "abr", {**ENV, "noise": (0.9, 1.1)}, PLAN)
    assert writer.missing() == []


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("ten years")
    with pytest.raises(InputError, match="must be empty or an experience pool, got a folder with"):
        PoolWriter(tmp_path, "abr", ENV, PLAN)
    assert content(tmp_path) == {"thesis.tex": b"ten years"}
    with pytest.raises(InputError, match=r"pool must be a folder, got .*thesis.tex is a file"):
        PoolWriter(tmp_path / "thesis.tex", "abr", ENV, PLAN)


def test_a_full_disk_is_a_sentence_and_the_rest_is_kept(folder, monkeypatch):
    harm(folder / shard_name(1), "delete")
    writer, before = PoolWriter(folder, "abr", ENV, PLAN), content(folder)

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(OSError, match=r"No space left on device: .*shard-00001\.npz"):
            writer.write(1, SHARDS[1])
    assert content(folder) == before
    assert not writer.has(1)
    writer.write(1, SHARDS[1])
    assert writer.missing() == []


def test_shards_beyond_the_plan_are_refused(folder):
    writer = PoolWriter(folder, "abr", ENV, PLAN)
    for number in (3, -1):
        with pytest.raises(InputError, match=rf"shard must be in 0..2 as planned, got {number}"):
            writer.write(number, SHARDS[0])
    with pytest.raises(InputError, match="a shard must hold at least one episode, got none"):
        writer.write(0, [])


# Refusals ----------------------------------------------------------------------------------------


def harm(path, damage):
    data = path.read_bytes()
    if damage == "delete":
        path.unlink()
    elif damage == "truncate":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "flip":
        place = len(data) // 2
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            "delete",
            "shard-00001.npz must be in the pool, got no such file: run the command",
        ),
        ("truncate", r"shard-00001.npz must have \d+ bytes, got \d+, it is truncated: run the"),
        ("flip", "shard-00001.npz must have SHA-256 .* it was altered: run the command that made"),
    ],
)
def test_a_broken_shard_is_named(folder, damage, sentence):
    harm(folder / shard_name(1), damage)
    for allow_unfinished in (False, True):
        with pytest.raises(InputError, match=sentence):
            ExperiencePool.load(folder, allow_unfinished=allow_unfinished)


def test_a_shard_altered_after_loading_is_named_too(folder):
    pool = ExperiencePool.load(folder)
    harm(folder / shard_name(2), "flip")
    assert_equal_episodes(pool.episodes[0], EPISODES[0])
    with pytest.raises(InputError, match=r"shard-00002.npz must have SHA-256"):
        list(pool.episodes)


def test_an_unfinished_pool_is_refused_unless_allowed(tmp_path):
    writer = PoolWriter(tmp_path / "pool", "abr", ENV, PLAN)
    with pytest.raises(InputError, match="must hold at least one shard, got none yet"):
        ExperiencePool.load(tmp_path / "pool", allow_unfinished=True)
    writer.write(2, SHARDS[2])
    with pytest.raises(InputError, match="must be finished, got 1 of 3 shards: run the command"):
        ExperiencePool.load(tmp_path / "pool")
    pool = ExperiencePool.load(tmp_path / "pool", allow_unfinished=True)
    assert not pool.finished
    for found, expected in zip(pool.episodes, SHARDS[2], strict=True):
        assert_equal_episodes(found, expected)
    assert_equal_episodes(pool.episodes[-1], SHARDS[2][-1])


def rewrite_meta(folder, change):
    meta = json.loads((folder / "meta.json").read_text())
    change(meta)
    (folder / "meta.json").write_text(json.dumps(meta))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda meta: meta.update(problem="cjs"), "pool must be a pool of abr, got one of cjs"),
        (
            lambda meta: meta.update(schema_version=2),
            "schema version 1, got 2: the pool belongs to",
        ),
        (lambda meta: meta.update(format="zip"), "format must be 'netllm-gym experience pool'"),
        (
            lambda meta: meta.pop("format"),
            "meta.json: the description of an experience pool must have format, got",
        ),
        (
            lambda meta: meta.pop("plan"),
            "the description of an experience pool must have plan, got",
        ),
        (
            lambda meta: meta["plan"].update(num_shards=2),
            "shards must be numbered once each below 2",
        ),
        (
            lambda meta: meta["shards"][1].update(number=0),
            "shards must be numbered once each below",
        ),
        (
            lambda meta: meta["shards"][1].update(number="../x"),
            r"shards\[1\]\.number must be a valid integer, got '\.\./x'",
        ),
        (
            lambda meta: meta["shards"][1].update(sha256=None),
            r"shards\[1\]\.sha256 must be a valid string, got None",
        ),
    ],
)
def test_another_description_is_refused(folder, change, sentence):
    rewrite_meta(folder, change)
    with pytest.raises(InputError, match=sentence):
        ExperiencePool.load(folder, problem="abr")


def test_counts_that_disagree_with_a_shard_are_refused(folder):
    rewrite_meta(folder, lambda meta: meta["shards"][1].update(num_steps=99))
    pool = ExperiencePool.load(folder)
    with pytest.raises(InputError, match=r"shard-00001.npz must hold 4 episodes, 99 steps"):
        list(pool.episodes)


def test_what_is_no_pool_is_refused(tmp_path):
    with pytest.raises(InputError, match="nowhere must be an experience pool, got no such folder"):
        ExperiencePool.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"must be an experience pool, got a folder without meta"):
        ExperiencePool.load(tmp_path)


@dataclasses.dataclass(repr=False)  # hypothesis prints it, and megabytes help nobody
class Harmed:
    folder: Path
    before: dict

    def restored(self):
        for name, data in self.before.items():
            (self.folder / name).write_bytes(data)
        return self.folder, self.before


@pytest.fixture(scope="module")
def harmed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("harmed") / "pool"
    write_pool(folder)
    return Harmed(folder, content(folder))


def put_shard(folder, number, data):
    """Put a shard in place together with its hash, as somebody with bad intentions would."""
    (folder / shard_name(number)).write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    new = {"sha256": sha256, "num_bytes": len(data)}
    rewrite_meta(folder, lambda meta: meta["shards"][number].update(new))


def read_or_refused(folder, name):
    """Read everything; a refusal must be one sentence with the name in it."""
    try:
        pool = ExperiencePool.load(folder)
        for episode in pool.episodes:
            assert episode.observations.dtype == np.float32
    except InputError as error:
        assert name in str(error)  # noqa: PT017  # being read is fine too


@settings(max_examples=80)
@given(number=st.integers(0, 2), data=st.data())
def test_any_harm_to_a_shard_is_named(harmed, number, data):
    folder, before = harmed.restored()
    name = shard_name(number)
    whole = before[name]
    kind = data.draw(st.sampled_from(["random", "truncate", "flip", "longer", "other"]))
    if kind == "random":
        broken = data.draw(st.binary(max_size=300))
    elif kind == "truncate":
        broken = whole[: data.draw(st.integers(0, len(whole) - 1))]
    elif kind == "flip":
        place, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
        broken = whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]
    elif kind == "longer":
        broken = whole + data.draw(st.binary(min_size=1, max_size=20))
    else:
        broken = before[shard_name((number + 1) % 3)]
    (folder / name).write_bytes(broken)
    with pytest.raises(InputError, match=name):
        ExperiencePool.load(folder)
    put_shard(folder, number, broken)  # and with a hash that fits, the reader itself must hold
    read_or_refused(folder, name)


@settings(max_examples=80)
@given(data=st.data())
def test_any_content_behind_good_checksums_is_read_or_named(harmed, data):
    folder, before = harmed.restored()
    parts = members(before[shard_name(1)])
    name = data.draw(st.sampled_from(sorted(parts)))
    whole, kind = parts[name], data.draw(st.sampled_from(["flip", "cut", "drop", "swap", "header"]))
    if kind == "flip":
        place = data.draw(st.integers(0, len(whole) - 1))
        parts[name] = whole[:place] + bytes([data.draw(st.integers(0, 255))]) + whole[place + 1 :]
    elif kind == "cut":
        parts[name] = whole[: data.draw(st.integers(0, len(whole) - 1))]
    elif kind == "drop":
        del parts[name]
    elif kind == "swap":
        parts[name] = parts[data.draw(st.sampled_from(sorted(parts)))]
    else:
        header = json.dumps(data.draw(JSON)).encode()
        buffer = io.BytesIO()
        np.save(buffer, np.frombuffer(header, np.uint8))
        parts["header.npy"] = buffer.getvalue()
    put_shard(folder, 1, zipped(parts))
    read_or_refused(folder, shard_name(1))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["policies", "case", "trace", "seeds"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@settings(max_examples=80)
@given(data=st.data())
def test_any_description_is_read_or_refused(harmed, data):
    folder, before = harmed.restored()
    if data.draw(st.booleans()):
        (folder / "meta.json").write_bytes(data.draw(st.binary(max_size=100)))
    else:
        meta = json.loads(before["meta.json"])
        where = data.draw(st.sampled_from([meta, meta["plan"], *meta["shards"]]))
        where[data.draw(st.sampled_from(sorted(where)))] = data.draw(JSON)
        (folder / "meta.json").write_text(json.dumps(meta))
    read_or_refused(folder, "pool")  # the folder's name: the sentence says where


def test_objects_are_refused_and_no_pickle_is_opened(harmed, monkeypatch):
    folder, before = harmed.restored()
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], object), allow_pickle=True)
    parts = members(before[shard_name(1)])
    put_shard(folder, 1, zipped(parts | {"actions.npy": buffer.getvalue()}))

    def opened(*_, **__):
        raise AssertionError("a pickle was opened")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, opened)
    with pytest.raises(InputError, match=r"shard-00001.npz must be .*rows of numbers, got object"):
        list(ExperiencePool.load(folder).episodes)
