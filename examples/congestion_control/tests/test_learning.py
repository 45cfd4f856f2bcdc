from dataclasses import replace
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from netllm_gym.data.windows import PaddedEpisodes
from netllm_gym.errors import InputError
from netllm_gym.rollout import rollout

import congestion_control
from congestion_control.links import NUM_INTERVALS
from congestion_control.rules import CopaLike

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from netllm_gym.policies.llm.config import LLMConfig  # noqa: E402

from congestion_control.language import CongestionParts  # noqa: E402
from congestion_control.learning import (  # noqa: E402
    SCHEDULE,
    CongestionNetwork,
    CongestionNetworkConfig,
    DrawnLinks,
    features_of,
)


@pytest.fixture(scope="module")
def env():
    return gym.make_vec(congestion_control.ENV_ID, num_envs=4, autoreset_mode="Disabled").unwrapped


@pytest.fixture(scope="module")
def episodes(env):
    return PaddedEpisodes.of(rollout(CopaLike(env), env, env.training_plan(range(4))).episodes)


@pytest.fixture(scope="module")
def config(env, episodes):
    return CongestionParts().sized(LLMConfig(problem="cc"), env, episodes)


def test_features_take_logarithms_of_throughput_and_rate():
    observations = torch.zeros(2, 40)
    observations[0, -5:] = torch.tensor([0.99, 9.99, 0.5, 2.0, 0.25])
    newest = features_of(observations)[0, -5:]
    assert newest.tolist() == pytest.approx([0.0, np.log(10.0), 0.5, 2.0, 0.25], abs=1e-6)


def test_config_has_the_sizes_of_the_environment(config):
    sizes = (config.num_actions, config.observation_shape, config.max_steps)
    assert sizes == (7, (40,), NUM_INTERVALS)


def test_each_step_is_one_token_of_normalised_features(config, episodes):
    parts, layout = CongestionParts(), CongestionParts.layouts["compact"]
    encoders, head = parts.encoders(config, layout, 8), parts.head(config, layout, 8)
    encoders.fit(episodes.seen)
    features = features_of(torch.from_numpy(episodes.seen)).double()
    assert encoders.mean.numpy() == pytest.approx(features.mean(0).numpy(), abs=1e-5)
    inputs = {
        "observations": torch.from_numpy(episodes.observations),
        "returns": torch.zeros(4, NUM_INTERVALS),
    }
    tokens = encoders(inputs)
    assert {name: tuple(each.shape) for name, each in tokens.items()} == {
        "step": (4, NUM_INTERVALS, 1, 8)
    }
    assert head(tokens, inputs).shape == (4, NUM_INTERVALS, 7)


def test_loss_is_the_cross_entropy_of_valid_steps(config):
    logits = torch.zeros(1, 2, 7)
    logits[0, 0, 3] = np.log(6.0)  # a probability of 6 / 12
    batch = {"targets": torch.tensor([[3, 0]]), "mask": torch.tensor([[True, False]])}
    loss, told = CongestionParts().score(config, logits, batch)
    assert float(loss) == pytest.approx(np.log(2.0))
    assert told["accuracy"].tolist() == [True]


def test_split_cuts_a_batch_into_passes():
    batch = {"mask": np.ones((5, 3), np.bool_), "actions": np.arange(15).reshape(5, 3)}
    passes = CongestionParts().split(batch, 2)
    assert [len(each["mask"]) for each in passes] == [2, 2, 1]
    np.testing.assert_array_equal(passes[2]["actions"], [[12, 13, 14]])


def test_what_does_not_fit_is_refused(config, env, episodes):
    parts = CongestionParts()
    parts.check_episodes(config, episodes)
    parts.check_env(config, env)
    with pytest.raises(InputError, match=r"observations must be \(39,\)"):
        parts.check_episodes(replace(config, observation_shape=(39,)), episodes)
    with pytest.raises(InputError, match=r"actions must be in 0\.\.1"):
        parts.check_episodes(replace(config, num_actions=2), episodes)
    with pytest.raises(InputError, match="max_steps must be at least 200"):
        parts.check_env(replace(config, max_steps=50), env)
    other = SimpleNamespace(
        observation_space=gym.spaces.Box(0, 1, (3,)), action_space=gym.spaces.Discrete(7)
    )
    with pytest.raises(InputError, match=r"env must have observations \(40,\) and 7 actions"):
        CongestionNetwork(CongestionNetworkConfig()).check_env(SimpleNamespace(batch=other))


def test_network_judges_its_own_likeliest_actions_as_the_likeliest(env, episodes):
    network = CongestionNetwork(CongestionNetworkConfig(seed=3))
    network.check_env(env)
    network.check_env(gym.make(congestion_control.ENV_ID).unwrapped)
    seen = episodes.seen
    chosen = network.decide(seen, None)
    best = network.judge(seen, chosen)
    for action in range(7):
        other = network.judge(seen, np.full(len(seen), action))
        assert (other.log_probs <= best.log_probs + 1e-6).all()
    assert best.values.shape == (len(seen),)
    assert best.entropies.max() <= np.log(7.0) + 1e-6


def test_actor_and_critic_share_no_weight():
    actor, critic = CongestionNetwork(CongestionNetworkConfig()).towers()
    assert not {id(each) for each in actor.parameters()} & {
        id(each) for each in critic.parameters()
    }


def test_each_update_of_ppo_plays_other_links(env):
    source = DrawnLinks(env, replace(SCHEDULE, episodes=4))
    first, second = (source.episodes(update, lambda: None)[1] for update in range(2))
    assert len({planned.seed for planned in (*first, *second)}) == 8
    assert source.episodes(0, lambda: None)[1] == first
