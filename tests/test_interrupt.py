"""Ctrl-C: one sentence with the command that resumes, nothing lost, no process left.

A shell shows 130; what starts the command sees that it died of SIGINT, as it did.
"""

import ctypes
import dataclasses
import signal
import sys

import pytest

from netllm_gym.cli.main import run
from netllm_gym.cli.progress import Progress
from netllm_gym.pools.pool import ExperiencePool
from netllm_gym.problems.abr import ABR
from netllm_gym.problems.index import PROBLEMS
from tests.commands import Command

COLLECT = ["collect", "abr", "--policies", "bba", "--episodes", "2"]


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    out = tmp_path_factory.mktemp("pools") / "pool"
    assert run([*COLLECT, "--out", str(out)]) == 0
    return out


@pytest.mark.parametrize("name", ["collect", "train", "bench", "demo"])
def test_ctrl_c_is_one_sentence_with_the_command(capsys, monkeypatch, tmp_path, pool, name):
    out = str(tmp_path / "my out")  # the space must come out quoted
    arguments = {
        "collect": [*COLLECT, "--out", out],
        "train": ["train", "llm", "abr", "--pool", str(pool), "--layers", "1", "--out", out],
        "bench": ["bench", "abr", "--policies", "lowest", "--json", f"{out}.json"],
        "demo": ["demo", "--out", out],
    }[name]
    few = dataclasses.replace(ABR, demo=dataclasses.replace(ABR.demo, episodes=2))
    monkeypatch.setitem(PROBLEMS, "abr", few)

    def interrupted(self, done, total, detail=""):
        raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "update", interrupted)
    assert run(arguments) == 130
    lines = capsys.readouterr().err.splitlines()
    json_or_out = f"'{out}.json'" if name == "bench" else f"'{out}'"
    command = " ".join(["netllm-gym", *arguments[:-1], json_or_out])
    begun = ["bench: lowest begins"] if name == "bench" else []
    advice = "finished work is kept, resume with"
    assert lines == [*begun, f"netllm-gym: interrupted; {advice} `{command}`"]
    assert not (tmp_path / "my out.json").exists()


@pytest.fixture
def default_ctrl_c():
    """Let Ctrl-C do as in a terminal: what a shell starts behind `&` ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("default_ctrl_c")
def test_a_ctrl_c_that_a_library_swallows_is_not_lost(capfd):
    callback = ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(signal.SIGINT))
    with Progress("collect", "episodes") as progress:
        callback()  # no caller to raise it to; Python would print it and go on
        with pytest.raises(KeyboardInterrupt):
            progress.update(1, 2)
    assert capfd.readouterr().err == ""
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def sentence_alone(ended):
    """Whether the last line says how to go on and the others are the lines of the progress."""
    *before, last = ended.complained.splitlines()
    assert last.startswith("netllm-gym: interrupted; ")
    assert all(line.split()[0] in ("collect:", "train:", "bench:") for line in before), before
    return True


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for orphans in /proc")
@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.05, 0.1, 0.5, 2.0])
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_a_collection_and_its_workers(tmp_path, workers, after_s):
    out = tmp_path / "pool"
    collect = ["collect", "abr", "--policies", "robust_mpc,optimum", "--episodes", 2000]
    running = Command([*collect, "--workers", workers, "--out", out])
    assert running.runs_until((out / "meta.json").exists)
    assert running.runs_for(after_s)
    ended = running.interrupt()
    assert ended.status == -signal.SIGINT
    assert sentence_alone(ended)
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    if len(list(out.iterdir())) > 1:
        assert len(ExperiencePool.load(out, allow_unfinished=True)) > 0


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for orphans in /proc")
@pytest.mark.parametrize("name", ["train", "bench", "demo"])
def test_ctrl_c_ends_what_takes_long(tmp_path, pool, name):
    out = tmp_path / "out"
    arguments, begun = {
        "train": (
            [
                "train",
                "llm",
                "abr",
                "--pool",
                pool,
                "--layers",
                1,
                "--checkpoint-every",
                1,
                "--out",
                out,
            ],
            (out / "last").is_dir,
        ),
        "bench": (["bench", "abr", "--policies", "optimum", "--json", out], lambda: False),
        "demo": (["demo", "--out", out], (out / "pool/shard-00000.npz").exists),
    }[name]
    running = Command(arguments)
    if name == "bench":
        assert running.runs_for(3.0)  # nothing is on the disk to wait for
    else:
        assert running.runs_until(begun)
    ended = running.interrupt()
    assert ended.status == -signal.SIGINT
    assert sentence_alone(ended)
    assert begun() == (name != "bench")
