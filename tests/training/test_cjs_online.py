"""Online RL in CJS: its sums by hand, what it plays, and runs that resume to equal bits."""

import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from netllm_gym.errors import InputError
from netllm_gym.evaluation.evaluate import evaluate
from netllm_gym.evaluation.rollout import rollout
from netllm_gym.policies.loading import load_policy
from netllm_gym.policies.neural.checkpoint import load_network
from netllm_gym.policies.neural.cjs import Choice, Decima, DecimaNetworkConfig, imitation_losses
from netllm_gym.policies.neural.networks import NetworkPolicyFactory
from netllm_gym.problems.index import find_problem
from netllm_gym.training.advantages import discounted_returns
from netllm_gym.training.behaviour_cloning import BehaviourCloning
from netllm_gym.training.cjs_online import ArrivalEpisodes, CJSOnline, arrival_advantages
from netllm_gym.training.methods import TrainRequest
from netllm_gym.training.online import train_online
from netllm_gym.training.online_config import DecimaConfig, PPOConfig
from netllm_gym.training.ppo import PPOTask, mean_rewards, train_ppo
from netllm_gym.training.run import OPTIMIZER_FILE, TrainingRun
from tests.commands import files_of

CJS = find_problem("cjs")
CASE = {"workload": "synthetic", "num_executors": 8, "num_jobs": 4}
SMALL = DecimaConfig(
    updates=4, episodes=4, minibatch=32, rollouts=2, first_jobs=1, last_jobs=3, pretrain_updates=2,
    pretrain_episodes=3, checkpoint_every=1, threads=0,
)  # fmt: skip
HALVES_S = 100.0 * math.log(2.0)  # in which a horizon of 100 s halves a reward


def train(out, config, case, method="decima", **more):
    return train_online(
        TrainRequest(problem=CJS, method=method, out=out, case=case, **more), config
    )


def played(times_s, rewards):
    """Return what the advantages read of an episode."""
    clock_ms = 1000.0 * np.array(times_s)
    return SimpleNamespace(
        rewards=np.array(rewards, float), observations=SimpleNamespace(clock_ms=clock_ms)
    )


ONE = played([0.0, HALVES_S, 2 * HALVES_S], [4.0, 2.0, 1.0])  # returns 5.25, 2.5, 1
OTHER = played([0.0, HALVES_S / 2, HALVES_S], [0.0, 0.0, 3.0])  # returns 1.5, 3 / sqrt(2), 3
OF_ONE = [5.25 - 1.5, 2.5 - 3.0, 1.0 - 0.0]  # the other has ended by the last decision
OF_OTHER = [1.5 - 5.25, 3.0 / math.sqrt(2.0) - (5.25 + 2.5) / 2.0, 3.0 - 2.5]


def test_returns_are_discounted_decision_by_decision():
    got = discounted_returns(ONE.rewards, np.array([0.5, 0.5, 1.0]))
    assert got.tolist() == pytest.approx([5.25, 2.5, 1.0])


def test_a_decision_is_compared_with_the_other_rollouts_of_its_arrivals():
    shifted = played([0.0, HALVES_S], [7.0, 8.0])
    config = DecimaConfig(rollouts=2, horizon_s=100.0)
    first, second, third, fourth = arrival_advantages(config)([ONE, OTHER, shifted, shifted])
    assert first.tolist() == pytest.approx(OF_ONE)
    assert second.tolist() == pytest.approx(OF_OTHER)
    assert third.tolist() == fourth.tolist() == pytest.approx([0.0, 0.0])  # equal rollouts
    three = dataclasses.replace(config, rollouts=3)
    of_three = arrival_advantages(three)([ONE, OTHER, OTHER])
    assert of_three[0].tolist() == pytest.approx(OF_ONE)  # the mean of two equal ones
    assert of_three[1][2] == pytest.approx(3.0 - (2.5 + 3.0) / 2.0)


def test_cloning_counts_every_number_from_the_demand_up_as_right():
    of_stage = torch.tensor([[0.5, 0.5], [0.25, 0.75], [0.25, 0.75]]).log()
    of_executors = torch.tensor([[0.1, 0.2, 0.3, 0.4]] * 3).log()
    # Stage and executors less one; demands 4, 3 and 2: too few, just enough, more than enough.
    actions = torch.tensor([[0, 1], [1, 2], [1, 3]])
    own = of_stage.gather(1, actions[:, :1])[:, 0] + of_executors.gather(1, actions[:, 1:])[:, 0]
    choice = Choice(actions, own, of_stage, of_executors)
    got = imitation_losses(choice, torch.tensor([4, 3, 2])).tolist()
    wanted = [0.5 * 0.2, 0.75 * (0.3 + 0.4), 0.75 * (0.2 + 0.3 + 0.4)]
    assert got == pytest.approx([-math.log(each) for each in wanted], abs=1e-5)


def test_an_update_plays_each_of_its_arrivals_several_times():
    source = ArrivalEpisodes(CASE, SMALL)
    policy = NetworkPolicyFactory(Decima())
    seen, jobs = [], []
    for update in range(2):
        env, plan = source.episodes(update, policy)
        jobs.append(env.num_jobs)
        arrivals = [planned.options["arrival_seed"] for planned in plan]
        assert arrivals[0] == arrivals[1] != arrivals[2] == arrivals[3]
        assert min(arrivals) >= 10_000
        assert len({planned.seed for planned in plan}) == len(plan)  # draws of their own
        seen += arrivals
    assert jobs == [1, 3]  # of the updates that play, the first and the last
    assert len(set(seen)) == 4
    few = ArrivalEpisodes({**CASE, "num_jobs": 2}, SMALL)
    assert few.episodes(1, policy)[0].num_jobs == 2
    plain = ArrivalEpisodes(CASE, PPOConfig(episodes=4, rollouts=2))
    assert [plain.episodes(update, policy)[0].num_jobs for update in (0, 9)] == [4, 4]


def test_cloning_comes_to_do_as_the_teacher_does():
    config = DecimaConfig(pretrain_updates=4, pretrain_episodes=4)
    network = Decima()
    optimizer = torch.optim.Adam(network.parameters())
    source = CJSOnline(CJS, CASE, config).pretraining_source()
    teacher = load_policy("tuned_srpt", "cjs").factory
    cloning = BehaviourCloning(source, teacher, config)
    told = [cloning.update(number, network, optimizer) for number in range(4)]
    assert [each["teacher_share"] for each in told] == [1.0, 0.5, 0.0, 0.0]
    rates = [each["learning_rate"] for each in told]
    assert rates == pytest.approx([3e-3 * share for share in (0.875, 0.625, 0.375, 0.125)])
    for number in (0, 3):  # the teacher plays, the network plays
        env, plan = source.episodes(number, None)
        of_teacher = mean_rewards(rollout(teacher(env), env, plan).episodes)["return"]
        assert (told[number]["return"] == of_teacher) == (number == 0)
    again = cloning.update(0, network, optimizer)  # the same decisions, seen by what was learned
    assert again["decisions"] == told[0]["decisions"]
    assert again["cloning_loss"] < 0.95 * told[0]["cloning_loss"]


def first(observation):
    """Choose the first stage that may be chosen, and one executor."""
    return [int(np.flatnonzero(observation["stage_mask"])[0]), 0]


def test_a_plain_function_teaches():
    config = DecimaConfig(pretrain_updates=2, pretrain_episodes=3)
    teacher = load_policy(first, "cjs").factory
    cloning = BehaviourCloning(CJSOnline(CJS, CASE, config).pretraining_source(), teacher, config)
    network = Decima()
    told = cloning.update(1, network, torch.optim.Adam(network.parameters()))
    assert told["decisions"] > 0


def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(tmp_path):
    def train(out, **more):
        parts = CJSOnline(CJS, CASE, SMALL)
        cloned = parts.pretraining_source()
        task = PPOTask(
            Decima(DecimaNetworkConfig(seed=3)),
            parts.episode_source(),
            advantages=parts.advantages(),
            pretraining=BehaviourCloning(
                cloned, load_policy("tuned_srpt", "cjs").factory, SMALL
            ).update,
        )
        return train_ppo(task, SMALL, TrainingRun(out, resume=True, **more))

    train(tmp_path / "whole")
    for stop in (1, 2, 3):  # while it clones, between the two, while it plays
        train(tmp_path / "parts", stop_after=stop)
        torch.rand(7), np.random.default_rng().random()  # generators may be anywhere
    train(tmp_path / "parts")
    assert files_of(tmp_path / "whole/last") == files_of(tmp_path / "parts/last")
    text = (tmp_path / "whole/metrics.jsonl").read_text()
    told = [json.loads(line) for line in text.splitlines()]
    assert ["cloning_loss" in each for each in told] == [True, True, False, False]
    moments = load_file(tmp_path / "whole/last" / OPTIMIZER_FILE)
    steps = [each["epochs"] * max(1, round(each["decisions"] / 32)) for each in told[2:]]
    assert {float(each) for name, each in moments.items() if name.endswith("step")} == {sum(steps)}


def test_decima_trains_a_policy_that_draws_its_actions(tmp_path):
    out, case = tmp_path / "mine", {"num_executors": 8, "num_jobs": 3}
    config = DecimaConfig(updates=2, episodes=6, pretrain_updates=1)
    with pytest.raises(InputError, match="episodes must be a multiple of the 6 rollouts, got 4"):
        train(out, dataclasses.replace(config, episodes=4), case)
    assert not out.exists()
    train(out, config, case)
    network, values = load_network(out / "best")
    assert isinstance(network, Decima)
    origin = values["trained_on"]
    assert (origin["method"], origin["recordings"]) == ("decima", [])
    assert origin["options"] == {"first_jobs": 30, "last_jobs": 50, "horizon_s": 200.0}
    assert origin["validated_on"] == "synthetic-valid"
    assert len(origin["validation_recordings"]) == 10
    loaded = load_policy(str(out), "cjs")
    assert (loaded.factory.sampled, loaded.trained_on) == (True, "synthetic")
    assert load_policy(f"{out}:greedy", "cjs").name == "mine:greedy"
    table = evaluate("cjs", [str(out)], {"num_executors": 8, "num_jobs": 3})
    assert math.isfinite(table.rows[0].mean)


def test_ppo_trains_decimas_network_from_random_weights_and_then_further(tmp_path):
    case, told = {"num_executors": 8, "num_jobs": 3}, []
    config = PPOConfig(updates=3, episodes=6, rollouts=3, minibatch=64, validate_every=0)
    train(tmp_path / "first", config, case, "ppo", on_progress=told.append)
    assert all("cloning_loss" not in each and "value_loss" not in each for each in told)
    before = Decima(DecimaNetworkConfig(seed=0)).state_dict()
    first, _ = load_network(tmp_path / "first/last")
    assert any(not torch.equal(each, before[name]) for name, each in first.state_dict().items())
    further = dataclasses.replace(config, updates=1, init_from=str(tmp_path / "first"))
    further = dataclasses.replace(further, learning_rate=1e-12)
    train(tmp_path / "second", further, case, "ppo")
    again, values = load_network(tmp_path / "second/last")
    for name, each in load_network(tmp_path / "first/best")[0].state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], each)
    assert values["trained_on"]["workload"] == "synthetic"
    assert {*load_network(tmp_path / "first/best")[1]["trained_on"]["validation_recordings"]} <= {
        *values["trained_on"]["recordings"]
    }


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"first_jobs": 60}, "last_jobs must be at least first_jobs, 60, got 50"),
        ({"horizon_s": math.inf}, "horizon_s must be above 0 and finite, got inf"),
    ],
)
def test_nonsense_is_refused_at_birth(values, sentence):
    with pytest.raises(InputError, match=sentence):
        DecimaConfig(**values)


def test_what_cannot_be_trained_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="traces must be left out for cjs"):
        train(tmp_path / "run", SMALL, {"traces": "synthetic"})
    with pytest.raises(InputError, match="gamma must be left out with the baseline rollouts"):
        train(tmp_path / "run", dataclasses.replace(SMALL, gamma=0.9), CASE)
    with pytest.raises(InputError, match="baseline must be rollouts for a network without"):
        train(tmp_path / "run", PPOConfig(baseline="critic"), CASE, "ppo")
    with pytest.raises(InputError, match=r"policy must be a folder or one of .* got 'nosuch'"):
        train(tmp_path / "run", dataclasses.replace(SMALL, pretrain_teacher="nosuch"), CASE)
    config = PPOConfig(updates=1, episodes=6, threads=0)
    task = PPOTask(Decima(DecimaNetworkConfig()), ArrivalEpisodes(CASE, config))
    with pytest.raises(InputError, match="advantages must be given for a network without"):
        train_ppo(task, config, TrainingRun(tmp_path / "run"))
