"""The command line with clusters: a table, a pool, and one sentence for whatever is wrong."""

import json

import pytest

from netllm_gym.cli.main import run
from netllm_gym.pools.pool import ExperiencePool
from tests.cli.test_main import refused

SMALL = ("--num-executors", "4", "--num-jobs", "3")
JOBS = {"kind": "netllm-gym cjs recording 1", "jobs": []}


def job(**changes):
    plain = {"arrival_ms": 0, "tasks": [1, 1], "edges": [[0, 1]], "rough_ms": [5, 5]}
    return {**plain, "durations_ms": [[5], [5]], **changes}


def test_bench_prints_schedulers_and_bounds(capsys, tmp_path):
    file = tmp_path / "table.json"
    names = "fair,srpt,bound"
    assert run(["bench", "cjs", *SMALL, "--policies", names, "--json", str(file)]) == 0
    assert "synthetic x 4 executors x 3 jobs: 6 episodes" in capsys.readouterr().out
    rows = {row["policy"]: row for row in json.loads(file.read_text())["rows"]}
    assert rows["bound"]["mean"] < min(rows["fair"]["mean"], rows["srpt"]["mean"])
    assert rows["fair"]["n"] == 6


def test_more_arrival_seeds_can_be_asked_for(capsys):
    assert run(["bench", "cjs", *SMALL, "--policies", "fair", "--episodes", "9"]) == 0
    assert "9 episodes" in capsys.readouterr().out


def test_collect_writes_a_pool(capsys, tmp_path):
    out = tmp_path / "pool"
    asked = ["collect", "cjs", *SMALL, "--policies", "fair", "--episodes", "2"]
    assert run([*asked, "--out", str(out)]) == 0
    assert len(ExperiencePool.load(out, "cjs")) == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--traces", "x"], "traces must be left out for cjs, which has workload, num-executors"),
        (["--workload", "tpc"], "got 'tpc', did you mean tpch?"),
        (["--num-executors", "0"], "num_executors must be in 1..10000, got 0"),
        (["--num-jobs", "0"], "num_jobs must be in 1..100000, got 0"),
        (["--policies", "fiar"], "did you mean fair"),
        (["--policies", "bound"], "policies must name one that plays, got bound, a limit"),
    ],
)
def test_wrong_arguments(capsys, arguments, sentence):
    assert sentence in refused(capsys, "bench", "cjs", *arguments)


@pytest.mark.parametrize(
    ("jobs", "sentence"),
    [
        ([], "jobs"),
        ([job(edges=[[0, 1], [1, 0]])], "edges"),
        ([job(durations_ms=[[5], []])], "durations"),
        ([job(tasks=[1, 2])], "durations"),
        ([job(durations_ms=[[5], [float("nan")]])], "durations"),
        ([job(arrival_ms=-1)], "arrival_ms"),
    ],
)
def test_a_wrong_recording_is_one_sentence_with_its_file(capsys, tmp_path, jobs, sentence):
    file = tmp_path / "jobs.json"
    file.write_text(json.dumps({**JOBS, "jobs": jobs}))
    told = refused(capsys, "bench", "cjs", "--workload", file, "--policies", "fair")
    assert str(file) in told
    assert sentence in told


def test_a_recording_is_played(capsys, tmp_path):
    file = tmp_path / "jobs.json"
    file.write_text(json.dumps({**JOBS, "jobs": [job(), job(arrival_ms=7)]}))
    assert run(["bench", "cjs", "--workload", str(file), "--policies", "fair,bound_sure"]) == 0
    # All executors move to job 0 for 2 s and do two tasks of 5 ms: 2.01 s. They are free for job 1
    # when the second begins, at 2.005 s: it ends 2.01 s later, 4.008 s after it came. Mean 3.009.
    printed = capsys.readouterr().out
    assert "x 50 executors x 2 jobs: 1 episode," in printed
    assert "2.0100" in printed
    assert "3.0090" in printed


def test_a_long_recording_is_played_whole(capsys, tmp_path):
    file = tmp_path / "jobs.json"
    file.write_text(json.dumps({**JOBS, "jobs": [job(arrival_ms=each) for each in range(201)]}))
    assert run(["bench", "cjs", "--workload", str(file), "--policies", "fair"]) == 0
    assert "x 201 jobs: 1 episode," in capsys.readouterr().out


def test_jobs_that_were_left_out_are_said_in_the_table(capsys, tmp_path):
    jobs, file = tmp_path / "jobs.csv", tmp_path / "table.json"
    jobs.write_text("M1,2,a,1,Terminated,5,9,1,1\nM1,2,b,1,Failed,5,9,1,1\n")
    asked = ["bench", "cjs", *SMALL, "--workload", str(jobs), "--policies", "fair"]
    assert run([*asked, "--json", str(file)]) == 0
    remark = "1 of 2 jobs left out: 1 not wholly Terminated"
    assert f"Input: {remark}." in capsys.readouterr().out
    assert json.loads(file.read_text())["remarks"] == [remark]


def test_a_case_with_other_gaps_is_played_and_replayed(capsys, tmp_path):
    file, html = tmp_path / "table.json", tmp_path / "table.html"
    asked = ["bench", "cjs", *SMALL, "--policies", "fair,srpt", "--mean-gap-s", "0.5"]
    assert run([*asked, "--json", str(file)]) == 0
    case = json.loads(file.read_text())["case"]
    assert (case["mean_gap_s"], case["num_jobs"]) == ("0.5", "3")
    assert run(["report", str(file), "--out", str(html)]) == 0
    assert "0.5" in capsys.readouterr().out


def test_a_pool_says_how_many_jobs_were_played(tmp_path):
    out, jobs = tmp_path / "pool", tmp_path / "jobs.json"
    jobs.write_text(json.dumps({**JOBS, "jobs": [job(), job(arrival_ms=7)]}))
    asked = ["collect", "cjs", "--workload", str(jobs), "--policies", "fair", "--episodes", "1"]
    assert run([*asked, "--out", str(out)]) == 0
    assert ExperiencePool.load(out, "cjs").env_spec["arguments"]["num_jobs"] == 2


def test_a_missing_data_folder_is_one_sentence(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("NETLLM_GYM_DATA", str(tmp_path))
    told = refused(capsys, "bench", "cjs", "--workload", "tpch", "--policies", "fair")
    assert "cjs/tpch must be on this machine" in told
