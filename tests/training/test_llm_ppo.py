"""Language models that PPO trains further: evaluated as they act, resumed to equal bits."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from netllm_gym.data.abr.traces import Trace
from netllm_gym.data.abr.video import load_video
from netllm_gym.errors import InputError
from netllm_gym.evaluation.rollout import rollout
from netllm_gym.policies.checkpoint import policy_sha256
from netllm_gym.policies.llm.checkpoint import load_llm_policy, load_model, save_llm_policy
from netllm_gym.policies.llm.model import LLMModel
from netllm_gym.policies.llm.policy import LLMPolicy
from netllm_gym.policies.loading import load_policy
from netllm_gym.policies.neural.abr_mlp import ABRNetwork, ABRNetworkConfig
from netllm_gym.policies.neural.checkpoint import load_network, write_network
from netllm_gym.policies.neural.cjs import Decima
from netllm_gym.policies.neural.networks import remembered
from netllm_gym.policies.returns import ReturnSpec
from netllm_gym.problems.index import PROBLEMS
from netllm_gym.problems.problem import PolicyEntry
from netllm_gym.training.abr_foresight import FORESIGHT
from netllm_gym.training.abr_online import ABROnline
from netllm_gym.training.cjs_llm import ClusterLLM
from netllm_gym.training.cjs_online import CJSOnline
from netllm_gym.training.llm_ppo import EpisodeLLM
from netllm_gym.training.methods import TrainRequest
from netllm_gym.training.online import train_online
from netllm_gym.training.online_config import PPOConfig, UDRConfig
from netllm_gym.training.ppo import PPOTask, end_to_end, train_ppo
from netllm_gym.training.run import TrainingRun
from tests.commands import files_of
from tests.policies.llm.made import make_config, shape_folder
from tests.policies.llm.made_cjs import make_cjs_model
from tests.training.test_ppo import trace_episodes

VIDEO = load_video("synthetic")
STEPS = VIDEO.num_chunks - 1
LINK = Trace("link", np.arange(61.0), np.linspace(0.5, 6.0, 61), "home")
SHORT = PPOConfig(updates=3, episodes=4, epochs=2, minibatch=2 * STEPS, checkpoint_every=1)


def made_model(tmp_path, layout="compact", spread=0.25, adapt="full", **more):
    shape = shape_folder(tmp_path, "llama", initializer_range=spread)
    config = make_config(shape, layout, adapt=adapt, **more)
    return LLMModel(dataclasses.replace(config, max_steps=STEPS))


def made_critic():
    ladder_mbps = tuple(VIDEO.ladder_mbps.tolist())
    return ABRNetwork(ABRNetworkConfig(ladder_mbps, width=16, foresight=FORESIGHT))


def made_player(tmp_path, **more):
    return EpisodeLLM(made_model(tmp_path, **more), made_critic())


@pytest.mark.parametrize("layout", ["compact", "netllm"])
@pytest.mark.parametrize("context_steps", [None, 3])
def test_a_whole_episode_has_the_log_probs_of_its_play_step_by_step(
    tmp_path, layout, context_steps
):
    network = made_player(tmp_path, layout=layout, context_steps=context_steps)
    env, plan = trace_episodes(SHORT, [LINK]).episodes(0, None)
    episodes = rollout(network.player(env.num_envs, sampled=True), env, plan).episodes
    read = end_to_end(remembered(network, [episode.observations for episode in episodes]))
    actions = np.concatenate([episode.actions for episode in episodes])
    with torch.no_grad():
        evaluated = network.evaluate_actions(read, actions)
    assert len(set(actions)) > 2
    for row, episode in enumerate(episodes):
        alone = LLMPolicy(network.model, 1)
        alone.reset(np.array([0]), np.array([0]))
        wanted = []
        for seen, action in zip(episode.observations, episode.actions, strict=True):
            logits = torch.from_numpy(alone.logits(seen[None, :6], np.zeros(1)))[0]
            wanted.append(float(torch.log_softmax(logits, 0)[action]))
            alone._actions, alone._steps = np.array([action]), alone._steps + 1
        got = evaluated.log_probs[row * STEPS : (row + 1) * STEPS]
        assert got.tolist() == pytest.approx(wanted, abs=1e-4)


def test_the_critic_is_that_of_the_network_and_its_actor_stays(tmp_path):
    network, critic = made_player(tmp_path), made_critic()
    env, plan = trace_episodes(SHORT, [LINK]).episodes(0, None)
    episodes = rollout(network.player(env.num_envs, sampled=True), env, plan).episodes
    read = end_to_end(remembered(network, [episode.observations for episode in episodes]))
    actions = np.concatenate([episode.actions for episode in episodes])
    with torch.no_grad():
        evaluated, wanted = (
            network.evaluate_actions(read, actions),
            critic.evaluate_actions(read, actions),
        )
    assert torch.equal(evaluated.values, wanted.values)
    assert torch.equal(evaluated.return_std, wanted.return_std)
    task = PPOTask(network, trace_episodes(SHORT, [LINK]))
    train_ppo(task, SHORT, TrainingRun(tmp_path / "a"))
    changed = {
        name.split(".")[0]
        for name, each in network.critic_network.state_dict().items()
        if not torch.equal(each, critic.state_dict()[name])
    }
    assert changed == {"critic"}


def test_episodes_stay_whole_in_every_minibatch(tmp_path):
    network, seen = made_player(tmp_path), []
    evaluate_actions = network.evaluate_actions
    network.evaluate_actions = lambda read, actions: (
        seen.append(read[:, 5, -1]) or evaluate_actions(read, actions)
    )
    task = PPOTask(network, trace_episodes(SHORT, [LINK]))
    train_ppo(task, SHORT, TrainingRun(tmp_path / "a"))
    remaining = seen[0][:STEPS]
    assert (np.diff(remaining) < 0).all()
    assert {len(each) for each in seen} == {4 * STEPS, 2 * STEPS}
    for each in seen:
        assert (each.reshape(-1, STEPS) == remaining).all()


@pytest.mark.parametrize("adapt", ["full", "lora", "frozen"])
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(tmp_path, adapt):
    def train(out, **more):
        run = TrainingRun(out, trained_on={"traces": "made"}, resume=True, **more)
        source = trace_episodes(SHORT, [LINK])
        return train_ppo(PPOTask(made_player(tmp_path, adapt=adapt), source), SHORT, run)

    train(tmp_path / "whole")
    train(tmp_path / "parts", stop_after=1)
    torch.rand(7)  # the global generator may be anywhere
    train(tmp_path / "parts")
    assert files_of(tmp_path / "whole/last") == files_of(tmp_path / "parts/last")
    assert load_llm_policy(tmp_path / "whole/last").trained_on == {"traces": "made"}
    # What is not trained is neither moved nor kept beside the policy.
    before, (after, _) = made_model(tmp_path, adapt=adapt), load_model(tmp_path / "whole/last")
    trained = {name for name, each in before.named_parameters() if each.requires_grad}
    moved = {
        name
        for name, each in after.named_parameters()
        if not torch.equal(each, before.get_parameter(name))
    }
    assert moved <= trained
    assert any(name.startswith("backbone.") for name in moved) == (adapt != "frozen")
    moments = load_file(tmp_path / "whole/last/optimizer.safetensors")
    kept = {name.removesuffix("|weight") for name in moments if name.endswith("|weight")}
    assert {name.removeprefix("model.") for name in kept if name.startswith("model.")} == trained
    assert {name for name in kept if not name.startswith("model.")} == {
        f"critic_network.critic.{name}" for name in made_critic().critic.state_dict()
    }


def test_it_learns_that_a_fast_link_carries_high_rungs(tmp_path):
    fast = Trace("fast", np.arange(61.0), np.full(61, 60.0))
    config = PPOConfig(
        updates=16,
        episodes=16,
        epochs=4,
        minibatch=4 * STEPS,
        learning_rate=3e-3,
        entropy_coef=0.01,
    )
    told = []
    run = TrainingRun(tmp_path / "run", progress=told.append)
    task = PPOTask(made_player(tmp_path, spread=0.05), trace_episodes(config, [fast]))
    train_ppo(task, config, run)
    rewards = [each["reward"] for each in told]
    assert rewards[0] < 1.0
    assert np.mean(rewards[-3:]) > 2.5  # the top rung is 4.3 Mbit/s


def cluster_player(tmp_path, **more):
    return ClusterLLM(made_cluster_model(tmp_path, **more), None)


def made_cluster_model(tmp_path, adapt="full", **more):
    return make_cjs_model(shape_folder(tmp_path, "llama", initializer_range=0.25), adapt=adapt)


CLUSTER = {"workload": "synthetic", "num_executors": 6, "num_jobs": 4}
CLUSTER_PPO = PPOConfig(
    updates=3, episodes=4, rollouts=2, epochs=2, minibatch=64, checkpoint_every=1, threads=0,
    validate_every=0, learning_rate=1e-3,
)  # fmt: skip


def cluster_parts():
    return CJSOnline(PROBLEMS["cjs"], CLUSTER, CLUSTER_PPO)


def test_both_parts_of_a_decision_are_evaluated_as_the_model_drew_them(tmp_path, monkeypatch):
    network = cluster_player(tmp_path)
    env, plan = cluster_parts().episode_source().episodes(0, None)
    drawn = []  # (N,) log-probabilities of all choices, part by part
    pick = LLMPolicy._pick

    def recorded(self, logits):
        chosen = pick(self, logits)
        of_all = torch.log_softmax(logits.double(), dim=1)
        entropies = -(of_all.exp() * of_all.clamp(min=-1e30)).sum(1)
        drawn.append((of_all.gather(1, torch.from_numpy(chosen)[:, None])[:, 0], entropies))
        return chosen

    monkeypatch.setattr(LLMPolicy, "_pick", recorded)
    episodes = rollout(network.player(env.num_envs, sampled=True), env, plan).episodes
    views = end_to_end([episode.observations for episode in episodes])
    actions = np.concatenate([episode.actions for episode in episodes])
    with torch.no_grad():
        evaluation = network.evaluate_actions(views, actions)
    assert evaluation.values is None
    assert len(set(actions[:, 0])) > 3
    assert len(set(actions[:, 1])) > 2
    summed = [
        [(stage[kind] + executors[kind]) for kind in (0, 1)]
        for stage, executors in zip(drawn[::2], drawn[1::2], strict=True)
    ]  # steps of all rows; every row plays one episode
    for kind, got in ((0, evaluation.log_probs), (1, evaluation.entropies)):
        wanted = [
            float(summed[step][kind][row])
            for row, episode in enumerate(episodes)
            for step in range(len(episode.actions))
        ]
        assert got.tolist() == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("adapt", ["full", "lora"])
def test_a_resumed_run_of_a_cluster_model_equals_an_unbroken_one(tmp_path, adapt):
    def train(out, **more):
        parts, run = cluster_parts(), TrainingRun(out, resume=True, **more)
        task = PPOTask(
            cluster_player(tmp_path, adapt=adapt),
            parts.episode_source(),
            advantages=parts.advantages(),
        )
        return train_ppo(task, CLUSTER_PPO, run)

    train(tmp_path / "whole")
    train(tmp_path / "parts", stop_after=1)
    torch.rand(7)  # the global generator may be anywhere
    train(tmp_path / "parts")
    assert files_of(tmp_path / "whole/last") == files_of(tmp_path / "parts/last")
    before, (after, _) = (
        made_cluster_model(tmp_path, adapt=adapt),
        load_model(tmp_path / "whole/last"),
    )
    moved = {
        name.split(".")[0]
        for name, each in after.named_parameters()
        if not torch.equal(each, before.get_parameter(name))
    }
    assert moved >= {"backbone", "encoders", "head"}
    told = [json.loads(line) for line in (tmp_path / "whole/metrics.jsonl").open()]
    assert all("value_loss" not in each and each["kl"] >= 0 for each in told)


def test_a_cluster_model_is_trained_further_without_a_critic(tmp_path):
    save_llm_policy(tmp_path / "llm", made_cluster_model(tmp_path), {"workload": "before"})
    config = dataclasses.replace(CLUSTER_PPO, updates=1, init_from=str(tmp_path / "llm"))

    def train(out, config):
        request = TrainRequest(problem=PROBLEMS["cjs"], method="ppo", out=out, case=CLUSTER)
        return train_online(request, config)

    train(tmp_path / "run", config)
    loaded = load_policy(str(tmp_path / "run"), "cjs")
    assert loaded.trained_on == "before + synthetic"
    assert not loaded.factory.sampled
    for more, sentence in (
        ({"critic": "decima"}, "critic must be left out for the rollouts baseline, got 'decima'"),
        ({"baseline": "critic"}, "baseline must be rollouts for a network without a critic"),
    ):
        with pytest.raises(InputError, match=sentence):
            train(tmp_path / "refused", dataclasses.replace(config, **more))
    assert not (tmp_path / "refused").exists()


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Return where a folder of a trace is, and those of a language model and a critic."""
    monkeypatch.chdir(tmp_path)
    links = tmp_path / "links"
    links.mkdir()
    (links / "one.txt").write_text("".join(f"{second} 2.0\n" for second in range(60)))
    of_llm = {"traces": "a", "recordings": ["x"], "video": "other"}
    save_llm_policy(tmp_path / "llm", made_model(tmp_path), of_llm)
    (tmp_path / "critic").mkdir()
    of_critic = {"traces": "b", "recordings": ["y", "x"], "validation_recordings": ["v"]}
    write_network(tmp_path / "critic", made_critic(), of_critic)
    return tmp_path


def train_on_links(out, config=SHORT, on_progress=None, **options):
    """Train on the links of `folders`, further from what `options` name."""
    request = TrainRequest(
        problem=PROBLEMS["abr"],
        method="ppo",
        out=out,
        case={"traces": "links"},
        validate_on="links",
        on_progress=on_progress,
    )
    return train_online(request, dataclasses.replace(config, **options))


def test_a_language_model_is_trained_further_and_remembers_where_it_comes_from(folders):
    started = {"init_from": "llm", "critic": "critic", "episodes": 2, "updates": 1}
    train_on_links(folders / "run", **started)
    train_on_links(folders / "run", **started)  # nothing is left to do
    loaded = load_policy(str(folders / "run"))
    assert loaded.trained_on.startswith("a + b + links")
    assert loaded.factory.trained_on["video"] == "other + synthetic"
    assert {"x", "y", "v"} < loaded.recordings
    told = json.loads((folders / "run/last/state.json").read_text())["train"]
    assert (told["learning_rate"], told["entropy_coef"]) == (1e-4, 0.004)
    # A run from another model is another run.
    save_llm_policy(folders / "llm", made_model(folders, spread=0.2), {"traces": "a"})
    with pytest.raises(InputError, match="trained_on must be that of the run in"):
        train_on_links(folders / "run", **started)


def test_a_language_model_is_trained_further_on_generated_links(folders):
    config = UDRConfig(updates=1, episodes=2, threads=0, validate_every=0)
    train_on_links(folders / "run", config, init_from="llm", critic="critic")
    assert load_policy(str(folders / "run")).trained_on.startswith(
        "a + b + links + generated links"
    )


def test_a_network_is_trained_further_from_its_own_weights(folders):
    train_on_links(folders / "run", updates=1, learning_rate=1e-12, init_from="critic")
    before, after = (load_network(folders / part)[0] for part in ("critic", "run/last"))
    for name, weight in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], weight)
    assert load_policy(str(folders / "run")).trained_on.startswith("b + ")


def test_a_run_is_not_resumed_from_another_kind_of_policy(folders):
    for kind, start in (("model", "llm"), ("network", None)):
        train_on_links(folders / kind, init_from=start)
    for kind, start, sentence in (
        (
            "model",
            None,
            "init_from must be the language model with which the run in .*model began, got",
        ),
        (
            "network",
            "llm",
            "init_from must be that of the run in .*network, which trains a network, got",
        ),
    ):
        with pytest.raises(InputError, match=sentence):
            train_on_links(folders / kind, init_from=start)


def test_the_first_policy_is_scored_and_kept_until_something_is_better(folders):
    told, started = [], {"init_from": "llm", "critic": "critic"}
    options = {"validate_every": 1, "learning_rate": 1.0, **started}  # it forgets all
    found = train_on_links(folders / "run", on_progress=told.append, **options)
    scores = [each["score"] for each in told if "score" in each]
    assert len(scores) == 4
    assert found.best_score == max(scores)
    assert told[0] == {
        "update": 0,
        "score": scores[0],
        "best_score": scores[0],
        "best_update": 0,
    }
    found = train_on_links(folders / "end", **{**options, "validate_every": 0})
    assert found.best_update == SHORT.updates


def test_the_critic_of_the_package_is_the_default(folders, monkeypatch):
    monkeypatch.setitem(PROBLEMS["abr"].policies, "ppo", PolicyEntry(str(folders / "critic")))
    train_on_links(folders / "run", init_from="llm")
    told = json.loads((folders / "run/best/config.json").read_text())["trained_on"]
    assert told["critic_sha256"] == policy_sha256(folders / "critic")
    (folders / "critic" / "card.md").write_text("a card does not change the hash")
    assert told["critic_sha256"] == policy_sha256(folders / "critic")


def test_without_a_default_critic_that_of_a_new_network_is_trained(folders, monkeypatch):
    monkeypatch.setattr(ABROnline, "default_critic", None)
    train_on_links(folders / "run", init_from="llm")
    told = json.loads((folders / "run/best/config.json").read_text())["trained_on"]
    assert "critic_sha256" not in told
    lines = [json.loads(line) for line in (folders / "run/metrics.jsonl").open()]
    assert "value_loss" in lines[1]


def test_episodes_of_other_lengths_than_the_models_are_refused(tmp_path):
    config = dataclasses.replace(made_model(tmp_path).config, max_steps=STEPS + 1)
    task = PPOTask(EpisodeLLM(LLMModel(config), made_critic()), trace_episodes(SHORT, [LINK]))
    with pytest.raises(InputError, match=f"episodes must have {STEPS + 1} decisions each, got"):
        train_ppo(task, SHORT, TrainingRun(tmp_path / "run"))


@pytest.mark.parametrize(
    ("init_from", "critic", "sentence"),
    [
        (
            *("critic", "critic"),
            "critic must be left out for a network, which has its own, got 'critic'",
        ),
        ("nosuch", None, "init_from must be a folder or one of ppo, genet, netllm, got"),
        ("llm", "nosuch", "critic must be a folder or one of ppo, genet, netllm, got"),
        ("llm", "llm", "critic must be a network trained by online RL on abr, got llm"),
        ("decima", None, "init_from must be a network trained by online RL on abr, .* for cjs"),
        ("cluster", "critic", "init_from must be a policy for abr, got cjs"),
        ("told", "critic", "init_from must be given no returns, .*, got return_to_go"),
        ("short", "critic", "init_from must fit the case: the video must have at most 9"),
        ("long", "critic", "init_from must be of videos of 47 decisions, got 50"),
        (
            "narrow",
            "critic",
            "init_from must fit the case: the video must have a ladder of 5",
        ),
        ("half", "critic", "init_from must have weights of float32 .*, got bfloat16"),
        ("blind", None, "init_from must be a network that ppo, udr or genet trained, got"),
        ("other", None, "init_from must be of the ladder 0.3, 0.75, .* Mbit/s, got 0.1, 0.2"),
        ("llm", "other", "critic must be of the ladder 0.3, 0.75, .* Mbit/s, got 0.1, 0.2"),
    ],
)
def test_what_cannot_be_trained_further_is_one_sentence(folders, init_from, critic, sentence):
    told = ReturnSpec("return_to_go", center=0.0, scale=1.0, target=1.0)
    model = made_model(folders)
    config = model.config
    half = dataclasses.replace(config.backbone, dtype="bfloat16")
    for name, each in {
        "told": dataclasses.replace(config, returns=told),
        "short": dataclasses.replace(config, max_steps=9),
        "long": dataclasses.replace(config, max_steps=50),
        "narrow": dataclasses.replace(config, num_actions=5),
        "half": dataclasses.replace(config, backbone=half),
    }.items():
        save_llm_policy(name, LLMModel(each))
    save_llm_policy("cluster", make_cjs_model(shape_folder(folders, "llama")))
    ladder_mbps = tuple(VIDEO.ladder_mbps.tolist())
    for name, each in {
        "blind": ABRNetwork(ABRNetworkConfig(ladder_mbps, width=16)),
        "other": ABRNetwork(ABRNetworkConfig((0.1, 0.2, 0.3, 0.4, 0.5, 0.6), foresight=FORESIGHT)),
        "decima": Decima(),
    }.items():
        (folders / name).mkdir()
        write_network(folders / name, each)
    with pytest.raises(InputError, match=sentence):
        train_on_links(folders / "run", init_from=init_from, critic=critic)
    assert not (folders / "run").exists()
