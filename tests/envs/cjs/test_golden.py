"""The cluster simulator, decision for decision, against recorded runs of the reference's rules."""

import json
import os
import zlib
from pathlib import Path

import numpy as np
import pytest

from netllm_gym.envs.cjs.batch import ClusterBatch
from netllm_gym.envs.cjs.cluster import ClusterConfig
from tests.envs.cjs.golden import read_golden, recording_of_golden, recording_of_made

MADE = Path(__file__).parents[2] / "golden" / "made_workloads.json"
FULL = Path(os.environ.get("NETLLM_GYM_DATA", "nowhere")).parent / "golden" / "cjs"
CASES = json.loads(MADE.read_text())["cases"]


def replay(workload, num_executors, moving_delay_ms, decisions):
    """Take the recorded decisions, comparing all that is seen; return the completion times."""
    cluster = ClusterConfig(moving_delay_s=moving_delay_ms / 1000.0)
    batch = ClusterBatch(1, workload, num_executors, cluster=cluster)
    outcome = batch.begin(np.ones(1, np.bool_), [0], None, np.random.default_rng(0))
    for wanted in decisions:
        assert not outcome.terminated[0]
        view = batch.view()
        assert view.clock_ms[0] == wanted["t"]
        assert view.committable[0] == wanted["C"]
        assert view.job_id.tolist() == wanted["jobs"]
        assert view.supply.tolist() == wanted["sup"]
        outside = wanted["src_idx"] == len(wanted["jobs"])
        assert view.source_job[0] == (-1 if outside else wanted["src_idx"])
        offered = np.flatnonzero(view.schedulable)
        jobs = view.job_id[view.stage_job[offered]]
        assert np.stack([jobs, view.stage_id[offered]], axis=1).tolist() == wanted["S"]
        if "rem" in wanted:
            assert view.remaining.tolist() == wanted["rem"]
            np.testing.assert_array_equal(view.duration_ms, np.float32(wanted["dur"]))
        if "crc" in wanted:
            seen = [view.remaining, view.duration_ms, view.schedulable]
            nodes = np.stack([each.astype(np.float32) for each in seen], axis=1)
            assert zlib.crc32(nodes.tobytes()) == wanted["crc"]
            assert zlib.crc32(view.edges.astype(np.int64).tobytes()) == wanted["ecrc"]
        choice, executors = wanted["a"]
        slot = -1 if choice < 0 else int(offered[choice])
        outcome = batch.step(np.array([[slot, executors - 1]]))
        assert batch.state.rows["reward_ms"][0] == wanted["r"]
    assert outcome.terminated[0]
    return batch.state.jobs[0]["completion_ms"].tolist()


@pytest.mark.parametrize("case", CASES, ids=[str(case["seed"]) for case in CASES])
def test_made_workloads_are_played_as_recorded(case):
    completed = replay(
        recording_of_made(case),
        case["num_executors"],
        case["moving_delay_ms"],
        case["decisions"],
    )
    assert completed == case["completed_ms"]


@pytest.mark.skipif(not FULL.is_dir(), reason="no golden runs beside NETLLM_GYM_DATA")
@pytest.mark.parametrize("path", sorted(FULL.glob("*.json.gz")), ids=lambda path: path.name)
def test_reference_runs_are_played_as_recorded(path):
    run = read_golden(path)
    env = run["env"]
    completed = replay(
        recording_of_golden(path), env["num_executors"], env["moving_delay"], run["decisions"]
    )
    assert completed == [row[2] for row in run["jobs"]["rows"]]


def test_reward_sums_to_minus_the_completion_times_and_rows_do_not_disturb_each_other():
    def play(num_rows):
        case = CASES[2]
        batch = ClusterBatch(num_rows, recording_of_made(case), case["num_executors"])
        batch.begin(np.ones(num_rows, np.bool_), [0] * num_rows, None, np.random.default_rng(0))
        total = np.zeros(num_rows)
        for wanted in case["decisions"]:
            view = batch.view()
            offered = np.flatnonzero(view.schedulable & (view.stage_row == num_rows - 1))
            choice, executors = wanted["a"]
            slot = offered[choice] - view.stage_ptr[num_rows - 1] if choice >= 0 else -1
            outcome = batch.step(np.array([[slot, executors - 1]] * num_rows))
            total += outcome.reward
        return total, outcome.info["jct_list_s"][0]

    one, many = play(1), play(3)
    np.testing.assert_allclose(one[0], -one[1].sum())
    np.testing.assert_array_equal(many[0], np.repeat(one[0], 3))
