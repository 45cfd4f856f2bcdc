"""The table: pairing, intervals and provenance."""

import json

import numpy as np
import pytest

from netllm_gym.envs.abr.synthetic import UniformHold, generate_traces
from netllm_gym.envs.abr.traces import Trace, TraceSet
from netllm_gym.errors import InputError
from netllm_gym.evaluation import bootstrap, evaluate, score
from netllm_gym.policies.baselines.abr import BBA
from netllm_gym.problems import PROBLEMS, LoadedPolicy, load_policy
from netllm_gym.report import render_table
from netllm_gym.rollout import rollout

RECORDINGS = ("home", "home", "home", "train", "car")


def made_set():
    raw = generate_traces(UniformHold(0.5, 4.0), len(RECORDINGS), seed=3)
    traces = tuple(
        Trace(f"t{number}", *trace, recording=recording)
        for number, (trace, recording) in enumerate(zip(raw, RECORDINGS, strict=True))
    )
    return TraceSet("made", traces)


def test_rows_are_paired_and_compared_with_the_strongest_baseline():
    table = evaluate("abr", ["bba", "robust_mpc", "optimum"], {"traces": made_set()})
    bba, mpc, best = table.rows
    assert table.case == {"traces": "made", "video": "synthetic"}
    assert (bba.n, len(bba.per_episode)) == (5, 5)
    strongest = max((bba, mpc), key=lambda row: row.mean)
    assert strongest.versus is None
    assert best.versus["policy"] == strongest.policy
    assert best.versus["mean"] == pytest.approx(best.mean - strongest.mean)
    assert best.mean <= best.upper_bound + 1e-9
    assert all(np.array(best.per_episode) >= np.array(mpc.per_episode) - 1e-9)
    parts = bba.components
    qoe = parts["bitrate_mbps"] - 4.3 * parts["rebuffer_s"] - parts["smoothness_mbps"]
    assert bba.mean == pytest.approx(qoe)


def test_interval_resamples_recordings_not_traces():
    # Two recordings, of 1 and 3 traces. Drawn with replacement: both once (1/2), the first twice
    # (1/4: mean 0), the second twice (1/4: mean 1): the 95 % interval is [0, 1].
    values, groups = np.array([0.0, 1.0, 1.0, 1.0]), np.array([0, 1, 1, 1])
    assert bootstrap(values, groups) == (0.75, 0.0, 1.0)
    # Were traces resampled, all four would have to be the first one for a mean of 0: 1/256.
    assert bootstrap(values, np.arange(4)).low > 0.0


def test_interval_of_many_equals_the_normal_one():
    values = np.random.default_rng(1).normal(2.0, 1.0, 400)
    _, low, high = bootstrap(values, np.arange(400))
    assert low == pytest.approx(values.mean() - 1.96 * values.std() / 20, abs=0.01)
    assert high == pytest.approx(values.mean() + 1.96 * values.std() / 20, abs=0.01)


def test_score_weighs_recordings_equally():
    problem = PROBLEMS["abr"]
    env = problem.make_env(5, traces=made_set())
    episodes = rollout(BBA(env), env, env.evaluation_plan()).episodes
    means = [episode.rewards.mean() for episode in episodes]
    expected = np.mean([np.mean(means[:3]), means[3], means[4]])
    assert score(problem, BBA, env, env.evaluation_plan()) == pytest.approx(expected)


def test_policy_that_saw_the_case_says_so():
    plain = load_policy("bba")
    leaky = LoadedPolicy("bba", plain.factory, True, "some traces", frozenset({"home", "other"}))
    table = evaluate("abr", [leaky], {"traces": made_set()})
    assert table.rows[0].trained_on == "some traces (leaky: saw 1 of 3 recordings)"


def test_json_is_readable_and_equal_each_time():
    texts = []
    for _ in range(2):
        table = evaluate("abr", ["lowest", "random"], {"traces": made_set()})
        values = json.loads(table.to_json())
        for row in values["rows"]:
            row.pop("decision_ms")  # the one measured time
        texts.append(json.dumps(values))
    assert texts[0] == texts[1]
    assert {"problem", "case", "commit", "rows"} <= values.keys()
    keys = {"policy", "metric", "mean", "ci95", "n", "per_episode", "components", "trained_on"}
    assert keys <= values["rows"][0].keys()


def test_sequential_policies_play_alone_and_in_order():
    sizes = {"traces": made_set(), "video": "synthetic"}
    table = evaluate("abr", ["netllm_mpc", "bba"], sizes)
    assert [row.n for row in table.rows] == [5, 5]


def test_rendered_table_is_sorted_and_says_what_it_shows():
    table = evaluate("abr", ["lowest", "robust_mpc", "optimum"], {"traces": made_set()})
    lines = render_table(table).splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["optimum", "robust_mpc", "lowest"]
    assert "bootstrap over recordings" in lines[-2]
    assert "certified by optimum" in lines[-1]


def test_nothing_is_played_when_one_policy_is_unknown():
    played = []
    with pytest.raises(InputError, match="got 'bb'; did you mean bba"):
        evaluate("abr", ["lowest", "bb"], {"traces": made_set()}, lambda *said: played.append(said))
    assert not played


@pytest.mark.parametrize(
    ("problem", "policies", "sentence"),
    [
        ("vpn", ["bba"], "problem must be one of abr"),
        ("abr", [], "policies must name at least one"),
        ("abr", ["bba:sampled"], "bba must be named without :sampled"),
    ],
)
def test_wrong_names_are_refused(problem, policies, sentence):
    with pytest.raises(InputError, match=sentence):
        evaluate(problem, policies, {"traces": made_set()})
