"""A language model that goes on by playing: judged as it acts, resumed to equal bits, it learns."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from netllm_gym.cli.main import run as command_line
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
from netllm_gym.policies.neural.networks import remembered
from netllm_gym.policies.returns import ReturnSpec
from netllm_gym.problems.index import PROBLEMS
from netllm_gym.problems.problem import PolicyEntry
from netllm_gym.training.abr_episodes import FORESIGHT, TraceEpisodes
from netllm_gym.training.config import PPOConfig
from netllm_gym.training.llm_ppo import PlayingLLM
from netllm_gym.training.online import train_online
from netllm_gym.training.ppo import end_to_end, train_ppo
from netllm_gym.training.run import TrainingRun
from tests.policies.llm.made import make_config, shape_folder
from tests.policies.llm.made_cjs import make_cjs_model
from tests.training.test_ppo import files_of

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
    return PlayingLLM(made_model(tmp_path, **more), made_critic())


@pytest.mark.parametrize("layout", ["compact", "netllm"])
@pytest.mark.parametrize("context_steps", [None, 3])
def test_a_whole_episode_is_judged_as_it_was_played_step_by_step(tmp_path, layout, context_steps):
    network = made_player(tmp_path, layout=layout, context_steps=context_steps)
    env, plan = TraceEpisodes([LINK], VIDEO, SHORT).episodes(0, None)
    episodes = rollout(network.player(env.num_envs, sampled=True), env, plan).episodes
    read = end_to_end(remembered(network, [episode.observations for episode in episodes]))
    actions = np.concatenate([episode.actions for episode in episodes])
    with torch.no_grad():
        judged = network.evaluate_actions(read, actions)
    assert len(set(actions)) > 2
    for row, episode in enumerate(episodes):
        alone = LLMPolicy(network.model, 1)
        alone.reset(np.array([0]), np.array([0]))
        wanted = []
        for seen, action in zip(episode.observations, episode.actions, strict=True):
            logits = torch.from_numpy(alone.logits(seen[None, :6], np.zeros(1)))[0]
            wanted.append(float(torch.log_softmax(logits, 0)[action]))
            alone._actions, alone._steps = np.array([action]), alone._steps + 1
        got = judged.log_probs[row * STEPS : (row + 1) * STEPS]
        assert got.tolist() == pytest.approx(wanted, abs=1e-4)


def test_the_critic_is_that_of_the_network_and_its_actor_stays(tmp_path):
    network, critic = made_player(tmp_path), made_critic()
    env, plan = TraceEpisodes([LINK], VIDEO, SHORT).episodes(0, None)
    episodes = rollout(network.player(env.num_envs, sampled=True), env, plan).episodes
    read = end_to_end(remembered(network, [episode.observations for episode in episodes]))
    actions = np.concatenate([episode.actions for episode in episodes])
    with torch.no_grad():
        judged, wanted = (
            network.evaluate_actions(read, actions),
            critic.evaluate_actions(read, actions),
        )
    assert torch.equal(judged.values, wanted.values)
    assert torch.equal(judged.return_std, wanted.return_std)
    train_ppo(
        lambda: network, TraceEpisodes([LINK], VIDEO, SHORT), SHORT, TrainingRun(tmp_path / "a")
    )
    changed = {
        name.split(".")[0]
        for name, each in network.reader.state_dict().items()
        if not torch.equal(each, critic.state_dict()[name])
    }
    assert changed == {"critic"}


def test_episodes_stay_whole_in_every_minibatch(tmp_path):
    network, seen = made_player(tmp_path), []
    judge = network.evaluate_actions
    network.evaluate_actions = lambda read, actions: (
        seen.append(read[:, 5, -1]) or judge(read, actions)
    )
    train_ppo(
        lambda: network, TraceEpisodes([LINK], VIDEO, SHORT), SHORT, TrainingRun(tmp_path / "a")
    )
    remaining = seen[0][:STEPS]
    assert (np.diff(remaining) < 0).all()
    assert {len(each) for each in seen} == {4 * STEPS, 2 * STEPS}
    for each in seen:
        assert (each.reshape(-1, STEPS) == remaining).all()


@pytest.mark.parametrize("adapt", ["full", "lora", "frozen"])
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(tmp_path, adapt):
    def train(out, **more):
        run = TrainingRun(out, trained_on={"traces": "made"}, resume=True, **more)
        worlds = TraceEpisodes([LINK], VIDEO, SHORT)
        return train_ppo(lambda: made_player(tmp_path, adapt=adapt), worlds, SHORT, run)

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
        f"reader.critic.{name}" for name in made_critic().critic.state_dict()
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
    worlds = TraceEpisodes([fast], VIDEO, config)
    train_ppo(lambda: made_player(tmp_path, spread=0.05), worlds, config, run)
    rewards = [each["reward"] for each in told]
    assert rewards[0] < 1.0
    assert np.mean(rewards[-3:]) > 2.5  # the top rung is 4.3 Mbit/s


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


def test_the_command_goes_on_with_a_language_model_and_remembers_where_it_comes_from(
    folders, capsys
):
    command = ["train", "ppo", "abr", "--traces", str(folders / "links")]
    command += ["--validate-on", str(folders / "links"), "--episodes", "2", "--updates", "1"]
    started = ["--start", str(folders / "llm"), "--critic", str(folders / "critic")]
    assert command_line([*command, *started, "--out", str(folders / "run")]) == 0
    assert command_line([*command, *started, "--out", str(folders / "run")]) == 0
    loaded = load_policy(str(folders / "run"))
    assert loaded.trained_on.startswith("a + b + links")
    assert loaded.factory.trained_on["video"] == "other + synthetic"
    assert {"x", "y", "v"} < loaded.recordings
    told = json.loads((folders / "run/last/state.json").read_text())["train"]
    assert (told["learning_rate"], told["entropy_coef"]) == (1e-4, 0.004)
    # Another start is another run.
    save_llm_policy(folders / "llm", made_model(folders, spread=0.2), {"traces": "a"})
    capsys.readouterr()
    assert command_line([*command, *started, "--out", str(folders / "run")]) == 2
    assert "trained_on must be that of the run in" in capsys.readouterr().err


def test_a_network_goes_on_from_its_own_weights(folders):
    schedule = dataclasses.replace(SHORT, updates=1, learning_rate=1e-12)
    case = {"traces": str(folders / "links")}
    where = (folders / "run", case, None, schedule, case["traces"])
    train_online("abr", "ppo", *where, start=str(folders / "critic"))
    before, after = (load_network(folders / part)[0] for part in ("critic", "run/last"))
    for name, weight in before.state_dict().items():
        torch.testing.assert_close(after.state_dict()[name], weight)
    assert load_policy(str(folders / "run")).trained_on.startswith("b + ")


def test_a_run_is_not_gone_on_with_by_another_kind_of_start(folders):
    case = {"traces": "links"}
    for kind, start in (("model", "llm"), ("network", None)):
        train_online("abr", "ppo", folders / kind, case, None, SHORT, "links", start=start)
    for kind, start, sentence in (
        (
            "model",
            None,
            "start must be the language model with which the run in .*model began, got",
        ),
        (
            "network",
            "llm",
            "start must be that of the run in .*network, which trains a network, got",
        ),
    ):
        with pytest.raises(InputError, match=sentence):
            train_online("abr", "ppo", folders / kind, case, None, SHORT, "links", start=start)


def test_the_start_is_scored_and_kept_until_something_is_better(folders):
    told, case = [], {"traces": str(folders / "links")}
    schedule = dataclasses.replace(SHORT, validate_every=1, learning_rate=1.0)  # it forgets all
    where = (folders / "run", case, None, schedule, case["traces"], told.append)
    found = train_online("abr", "ppo", *where, start=str(folders / "llm"), critic="critic")
    scores = [each["score"] for each in told if "score" in each]
    assert len(scores) == 4
    assert found.best_score == max(scores)
    assert told[0] == {
        "update": 0,
        "score": scores[0],
        "best_score": scores[0],
        "best_update": 0,
    }
    at_the_end = dataclasses.replace(schedule, validate_every=0)
    where = (folders / "end", case, None, at_the_end, case["traces"])
    found = train_online("abr", "ppo", *where, start=str(folders / "llm"), critic="critic")
    assert found.best_update == SHORT.updates


def test_the_critic_of_the_package_is_the_usual_one(folders, monkeypatch):
    monkeypatch.setitem(PROBLEMS["abr"].policies, "ppo", PolicyEntry(str(folders / "critic")))
    train_online(
        *("abr", "ppo", folders / "run", {"traces": "links"}, None, SHORT, "links"),
        start="llm",
    )
    told = json.loads((folders / "run/best/config.json").read_text())["trained_on"]
    assert told["critic_sha256"] == policy_sha256(folders / "critic")
    (folders / "critic" / "card.md").write_text("a card tells of a policy, it is none of it")
    assert told["critic_sha256"] == policy_sha256(folders / "critic")


@pytest.mark.parametrize(
    ("method", "start", "critic", "sentence"),
    [
        ("udr", "llm", None, "start must be left out for udr, got 'llm'"),
        ("ppo", None, "critic", "critic must come with a start, got 'critic' alone"),
        (
            *("ppo", "critic", "critic"),
            "critic must be left out for a network, which has its own, got 'critic'",
        ),
        ("ppo", "nosuch", None, "start must be a folder or one of ppo, genet, netllm, got"),
        ("ppo", "llm", "nosuch", "critic must be a folder or one of ppo, genet, netllm, got"),
        ("ppo", "llm", "llm", "critic must be a network that ppo, udr or genet trained, got llm"),
        ("ppo", "cluster", "critic", "start must be a policy for abr, got cjs"),
        ("ppo", "told", "critic", "start must be told no returns, .*, got return_to_go"),
        ("ppo", "short", "critic", "start must be of videos of 47 decisions, got 9"),
        ("ppo", "narrow", "critic", "start must be of a ladder of 6 rungs, got 5"),
        ("ppo", "half", "critic", "start must have weights of float32 .*, got bfloat16"),
        ("ppo", "blind", None, "start must be a network that ppo, udr or genet trained, got"),
        ("ppo", "other", None, "start must be of the ladder 0.3, 0.75, .* Mbit/s, got 0.1, 0.2"),
        ("ppo", "llm", "other", "critic must be of the ladder 0.3, 0.75, .* Mbit/s, got 0.1, 0.2"),
    ],
)
def test_what_cannot_go_on_is_one_sentence(folders, method, start, critic, sentence):
    told = ReturnSpec("return_to_go", center=0.0, scale=1.0, target=1.0)
    model = made_model(folders)
    config = model.config
    half = dataclasses.replace(config.backbone, dtype="bfloat16")
    for name, each in {
        "told": dataclasses.replace(config, returns=told),
        "short": dataclasses.replace(config, max_steps=9),
        "narrow": dataclasses.replace(config, num_actions=5),
        "half": dataclasses.replace(config, backbone=half),
    }.items():
        save_llm_policy(name, LLMModel(each))
    save_llm_policy("cluster", make_cjs_model(shape_folder(folders, "llama")))
    ladder_mbps = tuple(VIDEO.ladder_mbps.tolist())
    for name, each in {
        "blind": ABRNetworkConfig(ladder_mbps, width=16),
        "other": ABRNetworkConfig((0.1, 0.2, 0.3, 0.4, 0.5, 0.6), foresight=FORESIGHT),
    }.items():
        (folders / name).mkdir()
        write_network(folders / name, ABRNetwork(each))
    with pytest.raises(InputError, match=sentence):
        train_online(
            *("abr", method, folders / "run", {"traces": "links"}, None, SHORT, "links"),
            start=start,
            critic=critic,
        )
    assert not (folders / "run").exists()
