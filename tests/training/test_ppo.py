"""PPO: the sums of its objective, runs that resume to equal bits, and the episodes it plays."""

import dataclasses
import json
import math
from typing import get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from netllm_gym.data.abr.traces import Trace
from netllm_gym.data.abr.video import load_video
from netllm_gym.envs.abr.observation import BUFFER
from netllm_gym.errors import InputError
from netllm_gym.policies.checkpoint import file_sha256, write_tensors
from netllm_gym.policies.neural.abr_mlp import ABRNetwork, ABRNetworkConfig, LinkMemory, with_rows
from netllm_gym.policies.neural.networks import NetworkPolicyFactory
from netllm_gym.training.abr_foresight import FORESIGHT, ForesightEnv
from netllm_gym.training.abr_links import HEURISTICS, GenetEpisodes, Link, UDREpisodes
from netllm_gym.training.advantages import generalised_advantages, scaled, standardised
from netllm_gym.training.online import TrainingEpisodes
from netllm_gym.training.online_config import (
    RANGES,
    DecimaConfig,
    GenetConfig,
    Heuristic,
    LinkRanges,
    PPOConfig,
    UDRConfig,
)
from netllm_gym.training.ppo import PPOTask, clipped_loss, episode_seeds, laplace_loss, train_ppo
from netllm_gym.training.run import TrainingRun
from tests.commands import files_of

OPTIONS = {
    "updates": 4, "episodes": 4, "epochs": 2, "minibatch": 60, "checkpoint_every": 1, "threads": 0
}  # fmt: skip
SHORT = PPOConfig(**OPTIONS)
VIDEO = load_video("synthetic")
LINK = Trace("link", np.arange(61.0), np.full(61, 3.0), "home")
POINT = {
    "min_mbps": (1.0, 1.0), "max_mbps": (2.0, 2.0), "max_hold": (3, 3), "rtt_s": (0.08, 0.08),
    "buffer_cap_s": (30.0, 30.0),
}  # fmt: skip


def made_network(seed=0):
    ladder_mbps = tuple(VIDEO.ladder_mbps.tolist())
    return ABRNetwork(ABRNetworkConfig(ladder_mbps, width=16, foresight=FORESIGHT, seed=seed))


def trace_episodes(config=SHORT, traces=(LINK,)):
    env = ForesightEnv(config.episodes, list(traces), VIDEO, autoreset_mode="Disabled")
    return TrainingEpisodes(env, config.seed)


def task_of(new_network=made_network, config=SHORT, **more):
    return PPOTask(new_network(), trace_episodes(config), **more)


def test_advantages_equal_the_slow_sum():
    rng = np.random.default_rng(0)
    rewards, values, gamma, lam = rng.normal(size=(3, 5)), rng.normal(size=(3, 5)), 0.9, 0.8
    rewards[2, 3:], values[2, 3:] = 0.0, 0.0  # an episode of three steps
    got = generalised_advantages(rewards, values, gamma, lam)
    for row, length in enumerate([5, 5, 3]):
        for step in range(length):
            wanted = 0.0
            for ahead in range(step, length):
                after = values[row, ahead + 1] if ahead + 1 < length else 0.0
                surprise = rewards[row, ahead] + gamma * after - values[row, ahead]
                wanted += (gamma * lam) ** (ahead - step) * surprise
            assert got[row, step] == pytest.approx(wanted)


def test_the_objective_rewards_no_move_beyond_the_clip():
    # Ratios 2 and 1/2 with gains +-1: min(2, 1.2), min(-2, -1.2), min(.5, .8), min(-.5, -.8).
    moved = torch.tensor([2.0, 2.0, 0.5, 0.5]).log()
    gains = torch.tensor([1.0, -1.0, 1.0, -1.0])
    assert clipped_loss(moved, gains, 0.2).tolist() == pytest.approx([-1.2, 2.0, -0.5, 0.8])


def test_advantages_are_scaled_standardised_and_limited_by_hand():
    got = scaled(np.array([4.0, -1.0, 3.0]), np.array([4.0, 0.25, 1.0]), 0.5)
    assert got.tolist() == [2.0, -2.0, 3.0]
    # Nine 0 and a 10 have mean 1 and deviation 3.
    assert standardised(np.array([0.0] * 9 + [10.0]), 6.0) == pytest.approx([-1 / 3] * 9 + [3.0])
    assert standardised(np.array([0.0] * 9 + [10.0]), 2.0) == pytest.approx([-1 / 3] * 9 + [2.0])


def test_the_likeliest_spread_is_the_mean_distance():
    off = torch.tensor([1.0, 2.0, 6.0])
    losses = {spread: float(laplace_loss(off, torch.tensor(spread)).sum()) for spread in (2, 3, 4)}
    assert min(losses, key=losses.get) == 3
    assert losses[3] == pytest.approx(3 + 3 * math.log(3))  # 9 / 3 and three logarithms


@pytest.mark.parametrize(
    ("spread", "differs"),
    [(lambda buffer: 5.0 + 0.0 * buffer, False), (lambda buffer: 0.1 + buffer, True)],
)
def test_advantages_count_by_the_usual_distance_of_returns(tmp_path, spread, differs):
    class Spread(ABRNetwork):
        def evaluate_actions(self, observations, actions):
            buffer = torch.from_numpy(observations[:, BUFFER, -1].copy())
            return (
                super().evaluate_actions(observations, actions)._replace(return_std=spread(buffer))
            )

    def made():
        network = made_network()
        network.__class__ = Spread
        return network

    weights = []
    for advantage_scaling_power in (0.0, 1.0):
        schedule = dataclasses.replace(
            SHORT, updates=1, advantage_scaling_power=advantage_scaling_power, entropy_coef=0.0
        )
        out = tmp_path / str(advantage_scaling_power)
        train_ppo(task_of(made, schedule), schedule, TrainingRun(out))
        weights.append(load_file(out / "last/weights.safetensors")["actor.0.weight"])
    assert torch.allclose(*weights, atol=1e-6) != differs


def test_seeds_of_updates_and_runs_differ():
    seeds = [episode_seeds(seed, update, 50) for seed in (0, 1) for update in (0, 1)]
    assert len(np.unique(np.concatenate(seeds))) == 200
    assert all((each >= 0).all() for each in seeds)


GENET = GenetConfig(
    **OPTIONS, difficulty=1, heuristic="bba", round_updates=1, rounds=2, gap_episodes=2,
    first_points=2, guided_points=1,
)  # fmt: skip


@pytest.mark.parametrize("method", ["ppo", "genet"])
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(tmp_path, method):
    def train(out, **more):
        source = trace_episodes() if method == "ppo" else GenetEpisodes([LINK], VIDEO, GENET)
        scores = iter([0.5, 0.7, 0.6, 0.1][SHORT.updates - 4 + start :])
        schedule = dataclasses.replace(SHORT, validate_every=1)
        run = TrainingRun(
            out,
            validate=lambda factory: next(scores),
            trained_on={"traces": "made"},
            resume=True,
            **more,
        )
        return train_ppo(PPOTask(made_network(), source), schedule, run)

    start = 0
    whole = train(tmp_path / "whole")
    train(tmp_path / "parts", stop_after=2)
    torch.rand(7), np.random.default_rng().random()  # generators may be anywhere
    start = 2
    parts = train(tmp_path / "parts")
    assert (whole.best_update, whole.best_score) == (2, 0.7)
    assert (parts.best_update, parts.best_score) == (2, 0.7)
    for name in ("last", "best"):
        assert files_of(tmp_path / "whole" / name) == files_of(tmp_path / "parts" / name)
    told = [
        [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("whole", "parts")
    ]
    for line in (*told[0], *told[1]):
        line.pop("seconds", None)
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("ema_decay", "kept"),
    [(0.98, (0, 1 / 11, 2 / 12, 3 / 13)), (0.1, (0, 1 / 11, 0.1, 0.1)), (0.0, (0,) * 4)],
)
def test_what_is_kept_has_the_mean_of_the_weights(tmp_path, ema_decay, kept):
    schedule, mean = dataclasses.replace(SHORT, ema_decay=ema_decay), {}
    for update, share in enumerate(kept):
        run = TrainingRun(tmp_path / "run", resume=True, stop_after=update + 1)
        train_ppo(task_of(config=schedule), schedule, run)
        newest = load_file(tmp_path / "run/last/optimizer.safetensors")
        found = load_file(tmp_path / "run/last/weights.safetensors")
        for name, weight in found.items():
            new = newest[f"{name}|weight"]
            mean[name] = share * mean.get(name, new) + (1 - share) * new
            torch.testing.assert_close(weight, mean[name])
    moved = max(float((found[name] - newest[f"{name}|weight"]).abs().max()) for name in found)
    assert (moved > 1e-5) == (ema_decay > 0)


def test_weights_of_another_network_are_not_resumed_from(tmp_path):
    run = TrainingRun(tmp_path / "run", resume=True)
    train_ppo(task_of(), SHORT, dataclasses.replace(run, stop_after=1))
    last = tmp_path / "run/last"
    moments = load_file(last / "optimizer.safetensors")
    del moments["actor.0.weight|weight"]
    write_tensors(last / "optimizer.safetensors", moments)
    state = json.loads((last / "state.json").read_text())
    state["optimizer_sha256"] = file_sha256(last / "optimizer.safetensors")
    (last / "state.json").write_text(json.dumps(state))
    with pytest.raises(InputError, match=r"optimizer.safetensors must fit .* actor.0.weight"):
        train_ppo(task_of(), SHORT, run)


def test_a_run_is_not_resumed_with_other_options(tmp_path):
    run = TrainingRun(tmp_path / "run", resume=True)

    def train(run, **options):
        config = UDRConfig(**{**OPTIONS, **POINT, **options})
        task = PPOTask(made_network(), UDREpisodes([], VIDEO, config), settings={"case": {"a": 1}})
        return train_ppo(task, config, run)

    train(dataclasses.replace(run, stop_after=1), real_fraction=0.0)
    with pytest.raises(InputError, match=r"train must be .* with real_fraction 0\.0, got"):
        train(run, real_fraction=1.0)
    with pytest.raises(InputError, match=r"train must be that of the run in .* with clip"):
        train(run, real_fraction=0.0, clip=0.3)
    other = task_of(settings={"case": {"a": 2}})
    with pytest.raises(InputError, match=r"case must be that of the run in .* with a 1, got 2"):
        train_ppo(other, UDRConfig(**OPTIONS, **POINT, real_fraction=0.0), run)


def test_it_learns_that_a_fast_link_carries_the_top_rung(tmp_path):
    fast = Trace("fast", np.arange(61.0), np.full(61, 60.0))
    config = PPOConfig(
        updates=40,
        episodes=16,
        epochs=4,
        minibatch=188,
        learning_rate=3e-3,
        entropy_coef=0.01,
        threads=0,
    )
    told = []
    run = TrainingRun(tmp_path / "run", progress=told.append)
    train_ppo(PPOTask(made_network(), trace_episodes(config, [fast])), config, run)
    rewards = [each["reward"] for each in told]
    assert rewards[0] < 2.0
    assert np.mean(rewards[-3:]) > 3.9  # the top rung is 4.3 Mbit/s


def test_a_problem_may_say_itself_how_good_decisions_were(tmp_path):
    class Blind(ABRNetwork):
        def evaluate_actions(self, observations, actions):
            return super().evaluate_actions(observations, actions)._replace(values=None)

    def blind():
        network = made_network()
        network.__class__ = Blind
        return network

    config = dataclasses.replace(SHORT, updates=1, entropy_coef=0.0, learning_rate=3e-3)
    with pytest.raises(InputError, match="advantages must be given for a network without"):
        train_ppo(task_of(blind), config, TrainingRun(tmp_path / "none"))
    seen = []

    def rung_two_is_good(episodes):
        seen.append(len(episodes))
        return [np.where(episode.actions == 2, 1.0, 0.0) for episode in episodes]

    told = []
    network = blind()
    before = chance_of_two(network)
    run = TrainingRun(tmp_path / "run", progress=told.append)
    train_ppo(task_of(lambda: network, advantages=rung_two_is_good), config, run)
    assert seen == [4]
    assert "value_loss" not in told[0]
    assert chance_of_two(network) > before + 0.002


def chance_of_two(network):
    """Return the mean probability of rung 2."""
    ahead = with_rows(np.zeros((50, 6, 6), np.float32), np.ones((50, FORESIGHT)))
    seen = LinkMemory(50).see(ahead)
    with torch.no_grad():
        return float(network.evaluate_actions(seen, np.full(50, 2)).log_probs.exp().mean())


def test_an_update_plays_episodes_of_its_own_over_the_traces():
    env, plan = trace_episodes().episodes(0, None)
    assert list(env.trace_set.traces) == [LINK]
    assert [each.seed for each in plan] == episode_seeds(0, 0, 4).tolist()


def test_every_episode_of_udr_has_a_link_within_the_ranges():
    source = UDREpisodes([LINK], VIDEO, UDRConfig(episodes=60, threads=0))
    env, plan = source.episodes(3, None)
    assert [each.options["trace"] for each in plan] == list(range(60))
    assert [trace.recording for trace in env.trace_set.traces[:30]] == ["home"] * 30
    made = env.trace_set.traces[30:]
    assert len({trace.content for trace in made}) == 30
    for trace, player in zip(made, env.players[30:], strict=True):
        assert trace.capacity_mbps.max() <= 20.0
        assert 0.02 <= player.rtt_s <= 0.22
        assert 5.0 <= player.buffer_cap_s <= 105.0
    again = source.episodes(3, None)
    assert [t.content for t in again[0].trace_set.traces[30:]] == [t.content for t in made]
    assert again[1] == plan
    assert source.episodes(4, None)[0].trace_set.traces[30].content != made[0].content


def test_all_that_a_link_has_is_searched_and_every_rule_is_known():
    assert Link._fields == RANGES
    assert tuple(HEURISTICS) == get_args(Heuristic)


def test_a_find_of_genet_takes_its_weight_from_all_before():
    source = GenetEpisodes([], VIDEO, dataclasses.replace(GENET, episodes=4000))
    first, second = Link(1, 2, 3, 0.05, 6.0), Link(1, 2, 3, 0.06, 7.0)
    source.finds = [first, second]
    rng = np.random.default_rng(0)
    drawn = [source._link(rng) for _ in range(4000)]
    assert drawn.count(second) / 4000 == pytest.approx(0.3, abs=0.03)
    assert drawn.count(first) / 4000 == pytest.approx(0.7 * 0.3, abs=0.03)


def test_genet_searches_where_the_rule_is_farthest_ahead(monkeypatch):
    links = {**POINT, "rtt_s": (0.0, 1.0), "max_mbps": (1.0, 100.0)}
    genet = dataclasses.replace(GENET, **links, first_points=5, guided_points=10, kappa=1.0)
    source = GenetEpisodes([], VIDEO, genet)
    best = Link(1.0, 10.0, 3, 0.25, 30.0)

    def gap(link, number, policy):
        return -((link.rtt_s - best.rtt_s) ** 2) - math.log10(link.max_mbps / best.max_mbps) ** 2

    monkeypatch.setattr(source, "_gap", gap)
    found = source._search(0, None)
    assert found == source._search(0, None)
    assert found.rtt_s == pytest.approx(0.25, abs=0.1)
    assert found.max_mbps == pytest.approx(10.0, rel=0.3)
    assert found[::2] == pytest.approx((1.0, 3, 30.0))


def test_the_gap_is_the_rules_qoe_over_the_policys():
    network = made_network()
    with torch.no_grad():
        network.actor[-1].bias[0] = 100.0  # always the lowest rung, 0.3 Mbit/s
    fast = dataclasses.replace(GENET, **{**POINT, "min_mbps": (50.0, 50.0)})
    source = GenetEpisodes([], VIDEO, fast)
    link = Link(60.0, 60.0, 3, 0.08, 30.0)
    gap = source._gap(link, 0, NetworkPolicyFactory(network))
    # BBA's buffer passes 15 s after four chunks, so it plays nearly all of them at 4.3 Mbit/s.
    assert 4.3 - 0.3 > gap > 3.0


def test_finds_that_are_none_are_refused(tmp_path):
    source = GenetEpisodes([], VIDEO, GENET)
    for finds in (5, [[1, 2]], [[1, 2, 3, 4, "5"]], None):
        with pytest.raises(InputError, match="must have finds of 5 numbers, got"):
            source.restore({"finds": finds}, tmp_path / "state.json")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: PPOConfig(gamma=1.5), r"gamma must lie in \[0, 1\], got 1.5"),
        (lambda: PPOConfig(episodes=0), "episodes must be at least 1, got 0"),
        (lambda: PPOConfig(clip=math.nan), "clip must be above 0 and finite, got nan"),
        (lambda: UDRConfig(real_fraction=2), r"real_fraction must lie in \[0, 1\], got 2"),
        (lambda: GenetConfig(heuristic="bola"), "heuristic must be robust_mpc or bba, got 'bola'"),
        (lambda: GenetConfig(find_weight=1.0), r"find_weight must lie in \(0, 1\), got 1.0"),
        (lambda: UDRConfig(difficulty=4), "difficulty must be 1, 2 or 3, got 4"),
        (lambda: UDRConfig(rtt_s=(1.0, 0.0)), "rtt_s must be a range from 0 up"),
        (lambda: PPOConfig(baseline="mean"), "baseline must be critic or rollouts, got 'mean'"),
        (lambda: PPOConfig(rollouts=1), "rollouts must be at least 2, got 1"),
        (lambda: PPOConfig(critic="ppo"), "critic must be left out without init_from"),
        (lambda: PPOConfig(pretrain_updates=1), "pretrain_teacher must be named for pretraining"),
        (lambda: DecimaConfig(updates=12), "updates must be above the 12 of pretrain_updates"),
        (lambda: DecimaConfig(init_from="x"), "pretrain_updates must be 0 with init_from, got 12"),
    ],
)
def test_settings_refuse_nonsense(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()


def test_a_buffer_that_holds_no_chunk_is_refused():
    with pytest.raises(InputError, match=r"buffer_cap_s must hold one chunk of 4\.0 s, got"):
        UDREpisodes([], VIDEO, UDRConfig(buffer_cap_s=(1.0, 9.0)))


def test_ranges_that_are_given_take_the_place_of_those_of_the_difficulty():
    config = UDRConfig(difficulty=1, rtt_s=(0.5, 0.6), duration_s=100.0)
    assert config.links() == LinkRanges(
        (0.0, 3.5), (1.0, 5.0), (1, 4), (0.5, 0.6), (5.0, 10.0), duration_s=100.0
    )


@pytest.mark.parametrize(
    ("options", "rate", "coef"),
    [
        ({}, 1e-3, 0.05),
        ({"init_from": "ppo"}, 1e-4, 0.004),
        ({"init_from": "ppo", "learning_rate": 1e-2, "entropy_coef": 0.0}, 1e-2, 0.0),
    ],
)
def test_a_trained_policy_starts_at_smaller_rates_unless_told_otherwise(options, rate, coef):
    config = PPOConfig(**options)
    assert (config.first_learning_rate, config.first_entropy_coef) == (rate, coef)
