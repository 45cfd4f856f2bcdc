"""Small networks on disk: what is written comes back, what was altered is refused, and a folder is
a policy wherever it lies, in a run or in the package."""

import json

import numpy as np
import pytest
import torch

from netllm_gym.collection.collect import collect
from netllm_gym.data.abr.sets import load_trace_set
from netllm_gym.errors import InputError, MissingDataError
from netllm_gym.evaluation.evaluate import evaluate
from netllm_gym.policies import loading
from netllm_gym.policies.loading import load_policy
from netllm_gym.policies.neural.abr_mlp import (
    REMEMBERED,
    ABRNetwork,
    ABRNetworkConfig,
    LinkMemory,
)
from netllm_gym.policies.neural.checkpoint import load_network, write_network
from netllm_gym.problems.index import PROBLEMS, find_problem
from netllm_gym.problems.problem import PolicyEntry

CASE = {"traces": "synthetic-test", "video": "synthetic"}
RNG = np.random.default_rng(0)


def seen(rows=5):
    """Return what a network reads of (rows, 6, 6) observations of no particular world."""
    return LinkMemory(rows).see(RNG.uniform(0.0, 3.0, (rows, 6, 6)).astype(np.float32))


def made_folder(folder, trained_on=None, **config):
    """Write a network whose last layer was drawn anew, so that rungs differ."""
    network = ABRNetwork(ABRNetworkConfig(width=8, **config))
    torch.nn.init.normal_(network.actor[-1].weight, generator=torch.Generator().manual_seed(1))
    folder.mkdir(parents=True)
    write_network(folder, network, trained_on)
    return network


def test_a_network_comes_back_as_it_was_written(tmp_path):
    network = made_folder(tmp_path / "mine", {"traces": "here"})
    again, values = load_network(tmp_path / "mine")
    assert again.config == network.config
    assert values["trained_on"] == {"traces": "here"}
    observations = seen()
    before, after = (each.evaluate_actions(observations, np.arange(5)) for each in (network, again))
    assert torch.equal(before.log_probs, after.log_probs)
    assert torch.equal(before.values, after.values)


@pytest.mark.parametrize("rungs", [2, 6, 9])
def test_decisions_follow_their_probabilities_on_any_ladder(rungs):
    ladder = tuple(np.linspace(0.5, 5.0, rungs))
    network = ABRNetwork(ABRNetworkConfig(ladder, width=8))
    torch.nn.init.normal_(network.actor[-1].weight, std=0.5)
    observation = RNG.uniform(0, 2, (1, 6, max(6, rungs))).astype(np.float32)
    one = np.repeat(LinkMemory(1).see(observation), 20_000, axis=0)
    with torch.inference_mode():
        drawn = network.decide(one, RNG.random((1, len(one))))
        likely = network.decide(one, None)
        every = [network.evaluate_actions(one[:1], np.array([rung])) for rung in range(rungs)]
    shares = np.bincount(drawn, minlength=rungs) / len(one)
    probabilities = np.exp([float(each.log_probs[0]) for each in every])
    assert probabilities.sum() == pytest.approx(1.0, abs=1e-5)
    assert np.abs(shares - probabilities).max() < 0.02
    assert (likely == probabilities.argmax()).all()
    by_hand = -(probabilities * np.log(probabilities)).sum()
    assert float(every[0].entropies[0]) == pytest.approx(by_hand, rel=1e-4)


def test_the_rung_that_was_chosen_last_reaches_the_network():
    network = ABRNetwork(ABRNetworkConfig(width=8))
    observations = np.zeros((6, 6, 6), np.float32)
    observations[:, 0, -1] = np.array(network.config.ladder_mbps) / 4.3
    features = network.features(LinkMemory(6).see(observations))[:, :-REMEMBERED]
    assert features[:, -6:].argmax(1).tolist() == list(range(6))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"network": "nonsense"}, "config.json must name a network of .*, got 'nonsense'; .* anew"),
        ({"schema": "netllm-gym network 9"}, "must have the schema 'netllm-gym policy 1' or"),
        ({"config": {"width": "wide"}}, r"config.json: width must be a valid integer, got 'wide'"),
        ({"config": {"width": 16}}, "weights.safetensors must fit config.json with "),
        (
            {"config": {"width": 8, "depth": 3}},
            "must fit config.json, which differs in actor.6.bias",
        ),
        ({"trained_on": 5}, "trained_on must be an object, got 5"),
    ],
)
def test_a_config_that_does_not_fit_is_one_sentence(tmp_path, change, sentence):
    made_folder(tmp_path / "mine")
    path = tmp_path / "mine" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=sentence):
        load_policy(str(tmp_path / "mine"))


def test_altered_or_absent_weights_are_refused(tmp_path):
    made_folder(tmp_path / "mine")
    path = tmp_path / "mine" / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"must have SHA-256 .*: it was altered"):
        load_policy(str(tmp_path / "mine"))
    path.unlink()
    with pytest.raises(InputError, match=r"weights\.safetensors must exist"):
        load_policy(str(tmp_path / "mine"))


def test_weights_whose_products_would_not_be_finite_are_refused(tmp_path):
    network = made_folder(tmp_path / "mine")
    with torch.no_grad():
        network.actor[-1].weight[0, 0] = 3e38
    write_network(tmp_path / "mine", network, None)
    with pytest.raises(InputError, match=r"weights\.safetensors must be within \+-1e\+09, got 3e"):
        load_policy(str(tmp_path / "mine"))


def test_a_folder_is_benchmarked_and_collected_with_and_says_what_it_saw(tmp_path):
    first = load_trace_set("synthetic-test").traces[0]
    saw = {"traces": "made", "recordings": [first.content], "validation_recordings": ["chosen on"]}
    folder = tmp_path / "mine"
    made_folder(folder, saw)
    names = [str(folder), f"{folder}:sampled", f"{folder}:greedy", "bba"]
    with pytest.raises(InputError, match="different names, got 'mine' 2 times"):
        evaluate("abr", names, CASE)
    rows = evaluate("abr", [names[0], names[1], "bba"], CASE).rows
    assert [row.policy for row in rows] == ["mine", "mine:sampled", "bba"]
    assert rows[0].trained_on == "made (leaky: saw 1 of 100 recordings)"
    assert rows[0].per_episode != rows[1].per_episode
    pool = collect("abr", [str(folder)], 2, tmp_path / "pool", CASE)
    assert pool.env_spec["teachers_recordings"] == sorted([first.content, "chosen on"])
    assert pool.env_spec["teachers_sha256"] == {"mine": load_policy(str(folder)).sha256}


def test_weights_in_the_package_go_by_their_name(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "PACKAGE", tmp_path)
    entry = PolicyEntry("weights/abr/made", learned=True)
    monkeypatch.setitem(PROBLEMS["abr"].policies, "made", entry)
    with pytest.raises(MissingDataError, match=r"policy made must have its weights in "):
        load_policy("made")
    saw = {"traces": "clean-train", "recordings": ["a"], "validation_recordings": ["b"]}
    made_folder(tmp_path / "weights/abr/made", saw)
    loaded = load_policy("made")
    assert (loaded.name, loaded.trained_on, loaded.learned) == ("made", "clean-train", True)
    assert (loaded.recordings, loaded.selected_on) == ({"a"}, {"b"})
    assert load_policy("made:sampled").name == "made:sampled"
    with pytest.raises(InputError, match="decoding must be greedy or sampled, got 'loud'"):
        load_policy("made:loud")


def test_a_policy_of_another_ladder_is_refused(tmp_path):
    made_folder(tmp_path / "mine", ladder_mbps=(1.0, 2.0))
    env = find_problem("abr").make_env(1, **CASE)
    with pytest.raises(InputError, match=r"the video must have a ladder of 2 rungs, .* got 6"):
        load_policy(str(tmp_path / "mine")).factory(env)
