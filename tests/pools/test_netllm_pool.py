"""NetLLM's pickled pools: read to the bit, by name or not at all. Only tests write pickles."""

import os
import pickle
import pickletools
import sys
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netllm_gym.cli.main import run
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.errors import InputError
from netllm_gym.evaluation.rollout import rollout
from netllm_gym.policies.loading import load_policy
from netllm_gym.pools.netllm_pool import read_netllm_pool
from netllm_gym.pools.pool import ExperiencePool
from netllm_gym.problems.index import find_problem

MODULE = "plm_special.data.exp_pool"


class Pool:
    """A stand-in for NetLLM's class: pickled under its name."""

    def __init__(self, states=(), actions=(), rewards=(), dones=()):
        self.states, self.actions = list(states), list(actions)
        self.rewards, self.dones = list(rewards), list(dones)


@pytest.fixture(autouse=True, scope="module")
def netllm_class():
    """Let `pickle` find the stand-in where NetLLM has its class."""
    Pool.__module__, Pool.__qualname__ = MODULE, "ExperiencePool"
    names = ["plm_special", "plm_special.data", MODULE]
    for name in names:
        sys.modules[name] = types.ModuleType(name)
    sys.modules[MODULE].ExperiencePool = Pool
    yield
    for name in names:
        del sys.modules[name]


@pytest.fixture(scope="module")
def played():
    """Three whole episodes of the environment, as NetLLM would have seen them."""
    env = find_problem("abr").make_env(3)
    plan = [PlannedEpisode(seed) for seed in range(3)]
    return rollout(load_policy("bba").factory(env), env, plan).episodes


def pool_of(episodes):
    pool = Pool()
    for episode in episodes:
        for step in range(episode.num_steps):
            pool.states.append(episode.observations[step].copy())
            pool.actions.append([int, np.int64][step % 2](episode.actions[step]))
            pool.rewards.append([float, np.float64][step % 2](episode.rewards[step]))
            pool.dones.append([bool, np.bool_][step % 2](step + 1 == episode.num_steps))
    return pool


def write(folder, content, protocol=4):
    path = folder / "exp_pool.pkl"
    path.write_bytes(
        content if isinstance(content, bytes) else pickle.dumps(content, protocol=protocol)
    )
    return path


def test_a_pool_of_the_cjs_task_is_refused_as_what_it_is(tmp_path):
    state = {"dag": np.zeros((2, 5), np.float32), "edges": np.zeros((2, 1), np.int64)}
    pool = Pool([state], [{"stage_idx": 0, "num_exec": 4}], [-1.5], [True])
    with pytest.raises(InputError, match="pools of NetLLM's CJS task are not read"):
        read_netllm_pool(write(tmp_path, pool), "any")


@pytest.mark.parametrize("protocol", [3, 4])  # what Python 3.7 and later ones write
def test_a_pool_is_read_to_the_bit(tmp_path, played, protocol):
    found = read_netllm_pool(write(tmp_path, pool_of(played), protocol), "bba")
    assert [episode.seed for episode in found] == [0, 1, 2]
    for theirs, ours in zip(found, played, strict=True):
        np.testing.assert_array_equal(theirs.observations, ours.observations)
        np.testing.assert_array_equal(theirs.actions, ours.actions)
        np.testing.assert_array_equal(theirs.rewards, ours.rewards)
        assert (theirs.terminated, theirs.truncated, theirs.policy) == (True, False, "bba")
        assert theirs.case == {}


def test_numpy_1_pools_are_read(tmp_path, played):
    data = pickle.dumps(pool_of(played[:1]), protocol=3)
    old = data.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    assert old != data
    assert len(read_netllm_pool(write(tmp_path, old), "x")) == 1


def test_what_follows_the_last_end_is_truncated(tmp_path, played):
    pool = pool_of(played[:2])
    for series in (pool.states, pool.actions, pool.rewards, pool.dones):
        del series[-40:]
    first, second = read_netllm_pool(write(tmp_path, pool), "x")
    assert (first.terminated, second.terminated, second.truncated) == (True, False, True)
    assert (first.num_steps, second.num_steps) == (47, 7)


class Evil:
    def __reduce__(self):
        return os.system, ("touch owned",)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "must be a pickled pool of NetLLM"),
        (b"hello", "must be a pickled pool of NetLLM"),
        (Evil(), f"got '{os.system.__module__}.system'"),
        (
            [Evil()],
            r"must ask for no name but ExperiencePool, _reconstruct, dtype, ndarray, scalar",
        ),
        (Pool([Evil()], [0], [0.0], [True]), "system'"),
        ({"states": []}, "an ExperiencePool must come out of it, got dict"),
        (Pool(), "states, actions, rewards, dones must be lists of one length above 0"),
        (Pool([1], [0, 1], [0], [True]), "lists of one length above 0"),
        (Pool([np.zeros((6, 6))], [0], [0.0], [True]), r"states must be float32 .*float64 of \(6,"),
        (Pool([np.zeros((2, 2), "f4")], [0], [0.0], [True]), r"float32 of \(2, 2\) at 0"),
        (Pool(["no"], [0], [0.0], [True]), "states must be float32 .* got 'no' at 0"),
        (Pool([np.array(["a"])], [0], [0.0], [True]), "arrays must be of numbers"),
        (Pool([np.array([{}])], [0], [0.0], [True]), "states must be float32"),
        (Pool([0], [6], [0.0], [True]), "states must be"),
        (b"\x80\x04N.", "an ExperiencePool must come out of it, got NoneType"),
        (b"\x80\x04]e.", "a mark must stand before what is gathered"),
        (b"\x80\x04\x85.", "1 values must stand there, got fewer"),
        (b"\x80\x04h\x07.", "must be a pickled pool"),
        (b"(dp0\n.", "it must hold plain instructions only, got DICT"),
        (b"\x80\x05\x96\xff\xff\xff\xff\xff\x00\x00\x00", "must be a pickled pool"),
    ],
)
def test_other_pickles_are_refused_and_never_run(tmp_path, monkeypatch, content, sentence):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, content)
    with pytest.raises(InputError, match=sentence) as refusal:
        read_netllm_pool(path, "x")
    assert str(path) in str(refusal.value)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("actions", 6, r"actions must be whole numbers in 0\.\.5, got 6 at 3"),
        ("actions", True, r"actions must be whole numbers in 0\.\.5, got True at 3"),
        ("rewards", float("nan"), "rewards must be finite numbers, got nan at 3"),
        ("dones", 1, "dones must be booleans, got 1 at 3"),
        ("dones", True, r"pkl: episode 1: observations must hold the last one shifted"),
    ],
)
def test_wrong_values_are_refused_with_their_place(tmp_path, played, name, value, sentence):
    pool = pool_of(played[:1])
    getattr(pool, name)[3] = value
    with pytest.raises(InputError, match=sentence):
        read_netllm_pool(write(tmp_path, pool), "x")


def test_an_imported_pool_can_be_trained_on_only_when_what_was_played_is_named(
    capsys, tmp_path, played
):
    file, out, policy = write(tmp_path, pool_of(played)), tmp_path / "pool", tmp_path / "run"
    case = ["--traces", "synthetic", "--video", "synthetic", "--policy", "bba"]
    imported = ["data", "import-pool", str(file), "--out"]
    assert run([*imported, str(out), *case]) == 0
    assert "3 episodes, 141 steps of bba" in capsys.readouterr().out
    (first, *_) = ExperiencePool.load(out, "abr").episodes
    np.testing.assert_array_equal(first.observations, played[0].observations)
    assert run([*imported, str(out), *case]) == 0  # resumed: nothing is left to do
    train = ["train", "llm", "abr", "--updates", "1", "--validate-on", "synthetic-valid"]
    assert run([*train, "--pool", str(out), "--out", str(policy)]) == 0
    bare = tmp_path / "bare"
    assert run([*imported, str(bare)]) == 0
    assert "import it with --traces" in capsys.readouterr().out
    assert run([*train, "--pool", str(bare), "--out", str(tmp_path / "other")]) == 2
    assert "must hold arguments and worlds, as" in capsys.readouterr().err


def test_import_refuses_in_a_sentence_and_writes_nothing(capsys, tmp_path, played):
    file, out = write(tmp_path, pool_of(played)), tmp_path / "pool"
    (tmp_path / "video").mkdir()
    (tmp_path / "video/video.json").write_text('{"chunk_s": 4}')
    for rung in range(6):
        (tmp_path / "video" / f"video_size_{rung}").write_text(f"{rung + 1}\n" * 48)
    other = str(tmp_path / "video")
    for arguments, sentence in (
        (["--traces", "synthetic"], "traces and video must be given together"),
        (["--noise"], "noise must come with traces and video"),
        (["--traces", "nowhere", "--video", "synthetic"], "traces must be a folder or one of"),
        (["--traces", "synthetic", "--video", other], "video must offer the chunk sizes of"),
        (["--policy", ""], "policy must be a name"),
    ):
        assert run(["data", "import-pool", str(file), "--out", str(out), *arguments]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert sentence in said
        assert not out.exists()
    assert run(["data", "import-pool", str(tmp_path / "none"), "--out", str(out)]) == 2
    assert "No such file" in capsys.readouterr().err


STATE = np.zeros((6, 6), np.float32)
OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]


@st.composite
def harmed(draw):
    """A good pickle with bytes replaced, cut out or put in."""
    pool = Pool([STATE] * 2, [0, 1], [0.5, np.float64(1)], [False, True])
    data = pickle.dumps(pool, protocol=draw(st.sampled_from([0, 2, 3, 4, 5])))
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(data)))
        end = min(len(data), begin + draw(st.integers(0, 3)))
        data = data[:begin] + draw(st.sampled_from(OPCODES) | st.binary(max_size=3)) + data[end:]
    return data


ANY = st.binary(max_size=40) | st.lists(st.sampled_from(OPCODES)).map(b"".join) | harmed()


def is_read_or_refused(folder, data):
    path = write(folder, data)
    said = str(path)
    try:
        assert read_netllm_pool(path, "x")
    except InputError as refusal:
        said = str(refusal)
    assert str(path) in said
    assert "\n" not in said


@settings(max_examples=150)
@given(ANY)
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    is_read_or_refused(tmp_path_factory.getbasetemp(), data)


@pytest.mark.slow
@settings(max_examples=2000)
@given(ANY)
def test_any_bytes_are_read_or_refused_2000_times(tmp_path_factory, data):
    is_read_or_refused(tmp_path_factory.getbasetemp(), data)
