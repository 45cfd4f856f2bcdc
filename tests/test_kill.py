"""SIGKILL at any moment, and the same command again: equal pools, equal weights, nothing astray."""

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.commands import Command, files_of, session

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for orphans in /proc"),
]
KILLS = 10


def killed_until_it_ends(command, out, seed):
    """Kill a command ten times and let it end; return what it left, each time it ended.

    The moments lie one in each tenth of the time that an unbroken run takes, in random order. Each
    run resumes from what the last one left; one that ends before its moment makes room for the
    next, which begins anew. The machine may have less to do than during the unbroken run, so the
    moments come nearer then: all runs might end before a late one.
    """
    out.mkdir()
    started_s = time.monotonic()
    ended = Command([*command, "--out", out / "whole"]).end()
    assert ended.status == 0, ended.complained
    lasts_s = time.monotonic() - started_s
    rng = np.random.default_rng(seed)
    moments_s = rng.permutation(np.arange(KILLS) + rng.random(KILLS)) / KILLS * lasts_s
    results, killed = [], 0
    while killed < KILLS:
        run = Command([*command, "--out", out / "run"])
        if run.runs_for(moments_s[killed]):
            run.kill()
            killed += 1
        else:
            assert run.end().status == 0
            moments_s *= 0.8
            results.append((out / "run").rename(out / f"ended-{len(results)}"))
    ended = Command([*command, "--out", out / "run"]).end()
    assert ended.status == 0, ended.complained
    assert sorted(path.name for path in out.iterdir() if path.name[0] == ".") == []
    return [*results, out / "run"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_collection_resumes_to_equal_bytes(tmp_path, workers):
    collect = ["collect", "abr", "--policies", "random,robust_mpc", "--episodes", 2000]
    pools = killed_until_it_ends([*collect, "--workers", workers], tmp_path / "pools", workers)
    whole = files_of(tmp_path / "pools/whole")
    assert len(whole) == 16 + 1  # shards of 250 episodes, and meta.json
    for pool in pools:
        assert files_of(pool) == whole


def test_a_killed_worker_is_one_sentence_and_what_was_made_stays(tmp_path):
    out = tmp_path / "pool"
    collect = ["collect", "abr", "--policies", "optimum", "--episodes", 500, "--workers", 2]
    running = Command([*collect, "--out", out])

    def workers():
        pids = session(running.process.pid)
        return [pid for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    assert running.runs_until(lambda: len(workers()) == 2)
    os.kill(workers()[0], signal.SIGKILL)
    ended = running.end()
    assert ended.status == 1
    (sentence,) = ended.complained.splitlines()
    assert "a process was killed" in sentence
    assert "run the same command again" in sentence
    assert sorted(path.name for path in out.iterdir()) == ["meta.json"]


def test_a_killed_training_resumes_to_equal_weights(tmp_path):
    pool = tmp_path / "pool"
    collect = ["collect", "abr", "--policies", "bba,bola", "--episodes", 20, "--out", pool]
    assert Command(collect).end().status == 0
    often = ["--updates", 12, "--validate-every", 4, "--checkpoint-every", 1]
    small = ["--backbone", "tiny", "--layers", 1, "--batch-episodes", 8, "--threads", 1]
    train = ["train", "llm", "abr", "--pool", pool, *small, *often]
    runs = killed_until_it_ends(train, tmp_path / "runs", seed=3)
    whole = without_seconds(files_of(tmp_path / "runs/whole"))
    assert {"best/backbone.safetensors", "last/optimizer.safetensors"} <= whole.keys()
    for run in runs:
        assert without_seconds(files_of(run)) == whole
    shutil.rmtree(tmp_path / "runs")


def without_seconds(files):
    """Return the files of a run with its metrics as values, the times taken out of them."""
    lines = [json.loads(line) for line in files["metrics.jsonl"].splitlines()]
    metrics = [{key: line[key] for key in line if key != "seconds"} for line in lines]
    return {**files, "metrics.jsonl": metrics}
