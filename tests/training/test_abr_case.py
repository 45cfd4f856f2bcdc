"""Online RL of ABR trains in the case that it is given: its QoE, first rung and ladder."""

import pytest

import netllm_gym
from netllm_gym.data.abr.traces import Trace
from netllm_gym.data.abr.video import load_video
from netllm_gym.envs.abr.player import PlayerConfig
from netllm_gym.envs.abr.qoe import LogQoE
from netllm_gym.errors import InputError
from netllm_gym.training.abr_links import UDREpisodes
from netllm_gym.training.online_config import UDRConfig

SMALL = {"updates": 1, "episodes": 8, "minibatch": 64, "validate_every": 1}


def test_generated_links_have_the_qoe_and_the_first_rung_of_the_case():
    trace = Trace("made", [0.0, 50.0, 100.0], [1.0, 1.0, 3.0])
    config = UDRConfig(episodes=8, threads=0, real_fraction=0.5)
    player = PlayerConfig(rtt_s=0.3, first_rung=2)
    source = UDREpisodes([trace], load_video("synthetic"), config, LogQoE(), player)
    env, _ = source.episodes(0, lambda: None)
    assert env.qoe == LogQoE()
    assert {each.first_rung for each in env.players} == {2}
    assert [each.rtt_s == 0.3 for each in env.players] == [True] * 4 + [False] * 4


@pytest.mark.parametrize("method", ["ppo", "udr"])
def test_a_run_is_resumed_in_its_case_and_records_it(tmp_path, method):
    case = {"qoe": "log", "first_rung": 1, "ladder_mbps": (0.5, 1.0, 2.0)}
    for _ in range(2):
        netllm_gym.train("abr", method, tmp_path / "run", config=SMALL, case=case)
    policy = netllm_gym.load_policy(tmp_path / "run")
    assert policy.unusual == {"qoe": "log", "first_rung": "1", "ladder_mbps": "0.5,1,2"}
    with pytest.raises(InputError, match="must have a ladder of 3 rungs, as in training, got 6"):
        netllm_gym.evaluate("abr", [policy])


def test_what_is_drawn_for_each_link_is_no_part_of_the_case(tmp_path):
    with pytest.raises(InputError, match=r"rtt_s must be left out of the case .* got 0.1"):
        netllm_gym.train("abr", "udr", tmp_path / "run", case={"rtt_s": 0.1})
    with pytest.raises(InputError, match=r"qoe must be a name or a number .* got LogQoE"):
        netllm_gym.train("abr", "ppo", tmp_path / "run", config=SMALL, case={"qoe": LogQoE()})
