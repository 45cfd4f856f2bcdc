import gymnasium as gym
import numpy as np
import pytest
from netllm_gym.evaluation.rollout import rollout
from netllm_gym.pools.windows import PaddedEpisodes

import congestion_control
from congestion_control.links import NUM_INTERVALS
from congestion_control.rules import CopaLike

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from netllm_gym.policies.llm.config import LLMConfig  # noqa: E402

from congestion_control.language import CongestionParts  # noqa: E402
from congestion_control.learning import (  # noqa: E402
    CongestionNetwork,
    CongestionNetworkConfig,
    features_of,
)


@pytest.fixture(scope="module")
def episodes():
    env = gym.make_vec(congestion_control.ENV_ID, num_envs=4, autoreset_mode="Disabled").unwrapped
    return PaddedEpisodes.of(rollout(CopaLike(env), env, env.training_plan(range(4))).episodes)


def test_features_take_logarithms_of_throughput_and_rate():
    observations = torch.zeros(2, 40)
    observations[0, -5:] = torch.tensor([0.99, 9.99, 0.5, 2.0, 0.25])
    newest = features_of(observations)[0, -5:]
    assert newest.tolist() == pytest.approx([0.0, np.log(10.0), 0.5, 2.0, 0.25], abs=1e-6)


def test_each_step_is_one_token_of_normalised_features(episodes):
    encoders = CongestionParts().encoders(
        LLMConfig(problem="cc"), CongestionParts.layouts["compact"], 8
    )
    encoders.fit(episodes.seen)
    features = features_of(torch.from_numpy(episodes.seen)).double()
    assert encoders.mean.numpy() == pytest.approx(features.mean(0).numpy(), abs=1e-5)
    inputs = {
        "observations": torch.from_numpy(episodes.observations),
        "returns": torch.zeros(4, NUM_INTERVALS),
    }
    found = {name: tuple(each.shape) for name, each in encoders(inputs).items()}
    assert found == {"step": (4, NUM_INTERVALS, 1, 8)}


def test_the_decision_of_the_network_is_its_likeliest_action(episodes):
    network = CongestionNetwork(CongestionNetworkConfig(seed=3))
    chosen = network.decide(episodes.seen, None)
    best = network.evaluate_actions(episodes.seen, chosen)
    for action in range(7):
        other = network.evaluate_actions(episodes.seen, np.full(len(chosen), action))
        assert (other.log_probs <= best.log_probs + 1e-6).all()
    assert best.values.shape == (len(chosen),)
    assert best.entropies.max() <= np.log(7.0) + 1e-6


def test_actor_and_critic_share_no_weight():
    actor, critic = CongestionNetwork(CongestionNetworkConfig()).towers()
    assert not {id(each) for each in actor.parameters()} & {
        id(each) for each in critic.parameters()
    }
