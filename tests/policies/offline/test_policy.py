"""An offline policy at work: as in training, each row for itself, and nothing that is forbidden."""

import json

import numpy as np
import pytest
import torch

from netllm_gym.errors import InputError
from netllm_gym.policies.checkpoint import read_tensors, write_tensors
from netllm_gym.policies.offline import cjs
from netllm_gym.policies.offline.policy import (
    POLICY_FILE,
    OfflineModel,
    OfflinePolicy,
    OfflinePolicyFactory,
    load_offline_policy,
    write_policy,
)
from netllm_gym.training.offline_examples import Examples
from tests.policies.llm.made import MAX_STEPS, make_episodes
from tests.policies.offline.made import METHODS, lively, make_config
from tests.pools.made_cjs import made_view


def make_model(method, problem="abr", **changes):
    model = lively(OfflineModel(make_config(method, problem, **changes))).eval()
    rng = np.random.default_rng(4)
    model.normal.fit(rng.normal(0.5, 0.3, (50, model.config.num_features)).astype(np.float32))
    return model


def seen_scores(model, monkeypatch):
    """Return the list to which every forward pass from now on adds its scores."""
    seen = []
    forward = model.forward

    def look(batch):
        seen.append(forward(batch))
        return seen[-1]

    monkeypatch.setattr(model, "forward", look)
    return seen


@pytest.mark.parametrize("method", METHODS)
def test_acting_scores_each_step_as_training_does(method, monkeypatch):
    episodes = make_episodes(3)
    model = make_model(method)
    examples = Examples.of(episodes, model.config)
    whole = examples.learned
    assert len(whole) == 3 * MAX_STEPS
    batch = (
        examples._windows(whole, 4, MAX_STEPS) if method == "dt" else examples._transitions(whole)
    )
    with torch.no_grad():
        expected = model(batch).reshape(3, MAX_STEPS, -1)
    seen = seen_scores(model, monkeypatch)
    policy = OfflinePolicy(model, 3, sampled=False, name="x")
    monkeypatch.setattr(policy, "pick", lambda scores: episodes.actions[:, len(seen) - 1])
    # What is wanted at first is what the episode reached, as training tells it.
    for row in range(3):
        policy.reset(np.array([row]), np.array([row]))
    if method == "dt":
        center, scale, _ = model.config.returns.constants()
        returns = examples.returns.reshape(3, MAX_STEPS)[:, 0] * scale + center
        policy._recent._returns._wanted = returns.astype(np.float64)
    rewards = np.zeros(3)
    for step in range(MAX_STEPS):
        policy.act(episodes.observations[:, step], rewards, {})
        np.testing.assert_allclose(seen[step], expected[:, step], rtol=1e-3, atol=1e-4)
        rewards = episodes.rewards[:, step]
    spread = float(expected.std())
    assert spread > 0.1  # weights far from 0: a wrong input would show


def test_what_stands_before_an_episode_is_zero_to_the_network_too():
    model = make_model("dt")
    examples = Examples.of(make_episodes(3), model.config)
    batch = examples._windows(np.array([1]), 4, MAX_STEPS)  # the second step: two of padding
    seen = model.normalised(batch)["observations"][0]
    assert not seen[:2].any()
    torch.testing.assert_close(seen[2:], model.normal(batch["observations"][0, 2:]))


@pytest.mark.parametrize("method", METHODS)
def test_a_row_acts_alone_as_beside_others_and_forgets_at_reset(method, monkeypatch):
    episodes = make_episodes(4)
    model = make_model(method)
    seen = seen_scores(model, monkeypatch)

    def play(policy, rows, steps):
        first = len(seen)
        rewards = np.zeros(len(rows))
        for step in steps:
            policy.act(episodes.observations[rows, step], rewards, {})
            rewards = episodes.rewards[rows, step]
        return torch.stack(seen[first:])

    alone = OfflinePolicy(model, 1, sampled=False, name="x")
    alone.reset(np.array([0]), np.array([7]))
    expected = play(alone, [2], range(6))
    together = OfflinePolicy(model, 3, sampled=False, name="x")
    together.reset(np.arange(3), np.arange(3))
    play(together, [0, 1, 3], range(5))  # something to forget, in another place each
    together.reset(np.array([1]), np.array([7]))
    rewards = np.array([9.0, 0.0, 9.0])
    for step in range(6):
        together.act(episodes.observations[[3, 2, 0], step], rewards, {})
        torch.testing.assert_close(seen[-1][1], expected[step, 0], rtol=1e-3, atol=1e-4)
        rewards = episodes.rewards[[3, 2, 0], step]


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("method", ["bc", "dt"])
def test_what_may_not_be_chosen_never_is(method, sampled):
    view, _ = made_view(1, num_steps=60)
    policy = OfflinePolicy(make_model(method, "cjs"), 60, sampled=sampled, name="x")
    policy.reset(np.arange(60), np.arange(60))
    menu = cjs.menu_of(view)
    for _ in range(3):
        numbered = cjs.number_actions(menu, policy.act(view, np.zeros(60), {}))
        assert numbered.is_exact.all()
        assert menu.allowed[np.arange(60), numbered.action].all()


def test_greedy_takes_the_best_that_is_allowed():
    policy = OfflinePolicy(make_model("cql"), 1, sampled=False, name="x")
    assert policy.pick(np.array([[5.0, -np.inf, 7.0, 6.0]])).tolist() == [2]
    assert policy.pick(np.array([[-9.0, -np.inf, -np.inf, -np.inf]])).tolist() == [0]


def test_draws_follow_the_softmax_and_the_episodes_seed():
    policy = OfflinePolicy(make_model("bc"), 20_000, sampled=True, name="x")
    scores = np.tile(np.log([0.5, 0.2, 1e-300, 0.3]), (20_000, 1))
    scores[:, 2] = -np.inf
    policy.reset(np.arange(20_000), np.arange(20_000))
    drawn = policy.pick(scores)
    # Four standard deviations of a share of 20,000 are at most 4 x 0.0035.
    np.testing.assert_allclose(np.bincount(drawn) / 20_000, [0.5, 0.2, 0.0, 0.3], atol=0.0142)
    other = OfflinePolicy(policy.model, 2, sampled=True, name="x")
    other.reset(np.array([1]), np.array([123]))
    assert other.pick(scores[:2])[1] == drawn[123]


def test_what_cql_learns_cannot_be_drawn_from():
    with pytest.raises(InputError, match="decoding must be greedy for mine, got sampled: cql"):
        OfflinePolicyFactory(make_model("cql"), sampled=True, name="mine")
    assert OfflinePolicyFactory(make_model("cql")).sampled is False


@pytest.mark.parametrize("method", METHODS)
def test_a_policy_comes_back_from_disk_as_it_was(tmp_path, method):
    model = make_model(method)
    write_policy(tmp_path, model, {"traces": "x"})
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    loaded = load_offline_policy(tmp_path, name="mine")
    assert loaded.trained_on == {"traces": "x"}
    assert loaded.config == model.config
    for name, each in model.state_dict().items():
        torch.testing.assert_close(loaded.model.state_dict()[name], each, rtol=0, atol=0)


def test_files_that_do_not_fit_are_refused(tmp_path):
    write_policy(tmp_path, make_model("bc"))
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())

    def with_config(**changes):
        path.write_text(json.dumps({**values, "config": {**values["config"], **changes}}))

    with_config(num_actions=7)
    with pytest.raises(InputError, match=r"must fit config.json with network._fc.weight \(7, 8\)"):
        load_offline_policy(tmp_path)
    with_config(method="dt")
    with pytest.raises(InputError, match=r"must fit config.json"):
        load_offline_policy(tmp_path)
    with_config(hidden_units=[2**40])
    with pytest.raises(InputError, match=r"hidden_units must be in 1..4096"):
        load_offline_policy(tmp_path)
    with_config(returns={"kind": "return_to_go"})
    with pytest.raises(InputError, match="returns must be fitted"):
        load_offline_policy(tmp_path)
    with_config(problem="xyz")
    with pytest.raises(InputError, match="problem must be one of abr, cjs, got 'xyz'"):
        load_offline_policy(tmp_path)
    path.write_text(json.dumps(values))
    weights = read_tensors(tmp_path / POLICY_FILE, None)
    weights["normal.mean"] += 1.0
    write_tensors(tmp_path / POLICY_FILE, weights)
    with pytest.raises(InputError, match="it was altered"):
        load_offline_policy(tmp_path)
