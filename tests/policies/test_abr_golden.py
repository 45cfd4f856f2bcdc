"""ABR rules on fcc-test and video1 against the reference programs, action for action.

Expected: `golden/abr/baselines_fcc-test.json` (printed by the reference itself) and
`reference/abr/policies_fcc-test.json`, which lie beside the data folder and are not shipped.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from netllm_gym.envs.abr.vector_env import ABRVectorEnv
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.evaluation.rollout import rollout
from netllm_gym.policies.baselines.abr import BBA, BOLA, Lowest, RateBased
from netllm_gym.policies.baselines.abr_mpc import NetLLMMPC, RobustMPC

SHARED = Path(os.environ.get("NETLLM_GYM_DATA", "nowhere")).parent
needs_data = pytest.mark.skipif(
    not (SHARED / "golden/abr").is_dir() or not (SHARED / "reference/abr").is_dir(),
    reason="golden/abr and reference/abr must lie beside the folder NETLLM_GYM_DATA",
)


class Played(NamedTuple):
    """One episode."""

    actions: str  # one digit per chunk, the first the forced 0, as the golden files write it
    rewards: np.ndarray  # (steps,)

    @property
    def qoe(self):
        return self.rewards.mean()


def play(policy, env, traces: Sequence[int], first_seed=0) -> list[Played]:
    """Play the traces in order; episode i has seed first_seed + i."""
    plan = [PlannedEpisode(first_seed + i, {"trace": trace}) for i, trace in enumerate(traces)]
    return [
        Played("0" + "".join(map(str, episode.actions)), episode.rewards)
        for episode in rollout(policy, env, plan).episodes
    ]


def fcc_test(num_envs):
    return ABRVectorEnv(num_envs, "fcc-test", "video1", autoreset_mode="Disabled")


def reference_rows(name):
    """Return (actions, QoE) of each trace from the independent simulator's file."""
    text = (SHARED / "reference/abr/policies_fcc-test.json").read_text()
    rows = json.loads(text)["policies"][name]
    return [row["actions"] for row in rows], [row["qoe"] for row in rows]


def assert_equal_runs(played, actions, qoe, mean_qoe):
    assert len(played) == len(actions) == 100
    assert [episode.actions for episode in played] == actions
    np.testing.assert_allclose([episode.qoe for episode in played], qoe, rtol=0, atol=1e-9)
    assert np.mean([episode.qoe for episode in played]) == pytest.approx(mean_qoe, abs=1e-6)


@needs_data
@pytest.mark.parametrize(
    ("factory", "row", "mean_qoe"),
    [
        (Lowest, "const_0", 0.3),
        (RateBased, "rate_based", 0.864082),
        (BBA, "bba", 0.764151),
        (BOLA, "bola", 0.758543),
        (RobustMPC, "mpc_full", 1.000243),
    ],
)
def test_rule_equals_the_reference(factory, row, mean_qoe):
    env = fcc_test(100)
    assert_equal_runs(play(factory(env), env, range(100)), *reference_rows(row), mean_qoe)


@needs_data
@pytest.mark.parametrize(
    ("factory", "model", "num_envs", "mean_qoe"),
    [(BBA, "bba", 100, 0.764151), (NetLLMMPC, "mpc", 1, 0.848455)],
)
def test_rule_equals_the_run_that_the_reference_printed(factory, model, num_envs, mean_qoe):
    golden = json.loads((SHARED / "golden/abr/baselines_fcc-test.json").read_text())
    env = fcc_test(num_envs)
    assert [trace.name for trace in env.trace_set.traces] == golden["trace_files"]
    run = golden["models"][model]
    played = play(factory(env), env, range(100))
    assert_equal_runs(played, run["actions"], run["per_trace_qoe"], mean_qoe)
