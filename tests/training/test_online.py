"""Online RL by a problem's row alone: what is remembered of the data, and what is refused."""

import dataclasses
import json
import shutil

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from netllm_gym.cli.main import run
from netllm_gym.data.abr.sets import load_trace_set
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.errors import InputError
from netllm_gym.policies.checkpoint import policy_sha256
from netllm_gym.policies.loading import load_policy
from netllm_gym.policies.neural.networks import ActionEvaluation, Network
from netllm_gym.policies.policy import choose
from netllm_gym.problems import index
from netllm_gym.problems.index import find_problem, register_problem
from netllm_gym.problems.problem import CaseOption, ControlProblem, PolicyEntry
from netllm_gym.training.abr_links import GenetEpisodes
from netllm_gym.training.methods import TrainRequest
from netllm_gym.training.online import OnlineParts, train_online
from netllm_gym.training.online_config import DecimaConfig, GenetConfig, PPOConfig, UDRConfig
from tests.commands import files_of

ONE = PPOConfig(updates=1, episodes=4, threads=0)


def train(problem, method, out, case=None, config=ONE, validate_on=None, on_progress=None):
    request = TrainRequest(
        problem=find_problem(problem),
        method=method,
        out=out,
        case=case or {},
        validate_on=validate_on,
        on_progress=on_progress,
    )
    return train_online(request, config)


@pytest.fixture
def folders(tmp_path):
    """Return folders with one trace each, to train and to validate on."""
    found = []
    for name, capacity in (("home", 2.0), ("away", 2.5)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "one.txt").write_text("".join(f"{second} {capacity}\n" for second in range(60)))
        found.append(str(folder))
    return found


def kept(out):
    return json.loads((out / "best" / "config.json").read_text())["trained_on"]


def test_altered_copies_count_as_the_recording_that_they_were_made_of(tmp_path, folders):
    home, away = folders
    train("abr", "ppo", tmp_path / "run", {"traces": f"{home}~2"}, validate_on=away)
    (one,), (other,) = (load_trace_set(folder).traces for folder in folders)
    told = kept(tmp_path / "run")
    assert told["recordings"] == [one.content]
    assert told["validation_recordings"] == [other.content]
    loaded = load_policy(str(tmp_path / "run"))
    assert loaded.trained_on == f"{home}~2"
    assert (loaded.recordings, loaded.selected_on) == ({one.content}, {other.content})


def test_generated_links_have_no_recordings_and_named_traces_do(tmp_path, folders):
    home, away = folders
    udr = UDRConfig(updates=1, episodes=4, threads=0, difficulty=3)
    train("abr", "udr", tmp_path / "links", config=udr)
    assert kept(tmp_path / "links")["recordings"] == []
    assert kept(tmp_path / "links")["validated_on"] == "synthetic-valid"
    assert kept(tmp_path / "links")["options"]["difficulty"] == 3
    assert load_policy(str(tmp_path / "links")).trained_on == "generated links"
    train("abr", "udr", tmp_path / "both", {"traces": home}, udr, away)
    assert kept(tmp_path / "both")["recordings"] == [load_trace_set(home).traces[0].content]
    assert load_policy(str(tmp_path / "both")).trained_on == "home + generated links"


@pytest.mark.parametrize("config", [ONE, UDRConfig(updates=1, episodes=4, threads=0)])
def test_abr_is_pretrained_on_a_rule(tmp_path, config):
    told = []
    config = dataclasses.replace(
        config, updates=3, pretrain_updates=2, pretrain_teacher="robust_mpc", pretrain_episodes=3
    )
    train("abr", "ppo", tmp_path / "run", config=config, on_progress=told.append)
    cloned = [each for each in told if "cloning_loss" in each]
    assert [each["teacher_share"] for each in cloned] == [1.0, 0.0]
    assert cloned[1]["cloning_loss"] < 0.9 * cloned[0]["cloning_loss"]


def plain(observation):
    assert observation.shape == (6, 6)
    return 1


@pytest.mark.parametrize("config", [ONE, UDRConfig(updates=1, episodes=4, threads=0)])
@pytest.mark.parametrize("teacher", [f"{__name__}:plain", "netllm"])
def test_a_teacher_sees_nothing_of_the_future(tmp_path, config, teacher):
    config = dataclasses.replace(
        config, updates=2, pretrain_updates=1, pretrain_teacher=teacher, pretrain_episodes=2
    )
    told = []
    train("abr", "ppo", tmp_path / "run", config=config, on_progress=told.append)
    assert told[0]["decisions"] == 2 * 47


def test_genet_with_pretraining_resumes_to_equal_bits(tmp_path, monkeypatch):
    config = GenetConfig(
        updates=5, episodes=4, pretrain_updates=3, pretrain_teacher="bba", pretrain_episodes=2,
        difficulty=1, heuristic="bba", round_updates=1, gap_episodes=2, first_points=2,
        guided_points=1, checkpoint_every=1, validate_every=0, threads=0,
    )  # fmt: skip
    train("abr", "genet", tmp_path / "whole", config=config)

    def stop(told):
        if told.get("update") == 3:  # after the checkpoint of the second update
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("abr", "genet", tmp_path / "parts", config=config, on_progress=stop)
    train("abr", "genet", tmp_path / "parts", config=config)
    whole, parts = (tmp_path / run / "last" for run in ("whole", "parts"))
    assert files_of(whole) == files_of(parts)
    state = json.loads((whole / "state.json").read_text())
    assert len(state["finds"]) == 1  # of the two updates that play, none before the first

    def never(*arguments):
        raise AssertionError("pretraining must not search")

    monkeypatch.setattr(GenetEpisodes, "_search", never)
    parts = find_problem("abr").part("online", OnlineParts, find_problem("abr"), {}, config)
    env, plan = parts.pretraining_source().episodes(1, None)
    assert env.num_envs == len(plan) == 2


def test_what_the_teacher_of_pretraining_saw_counts_as_seen(tmp_path, folders):
    home, away = folders
    train("abr", "ppo", tmp_path / "teacher", {"traces": home}, validate_on=away)
    config = dataclasses.replace(
        ONE, updates=2, pretrain_updates=1, pretrain_teacher=str(tmp_path / "teacher")
    )
    train("abr", "ppo", tmp_path / "run", config=config)
    seen = {load_trace_set(folder).traces[0].content for folder in folders}
    assert seen <= load_policy(str(tmp_path / "run")).recordings


def test_a_run_without_noise_is_that_of_the_default(tmp_path):
    told = []
    train("abr", "ppo", tmp_path / "run", {"noise": False})
    train("abr", "ppo", tmp_path / "run", on_progress=told.append)
    assert told == []  # nothing was left to do


def test_a_run_is_not_resumed_with_another_teacher_in_the_same_folder(tmp_path):
    teacher, out = tmp_path / "teacher", tmp_path / "run"
    config = dataclasses.replace(
        ONE, updates=2, pretrain_updates=1, pretrain_teacher=str(teacher), pretrain_episodes=2
    )
    train("abr", "ppo", teacher)
    train("abr", "ppo", out, config=config)
    assert kept(out)["pretrain_teacher_sha256"] == policy_sha256(teacher / "best")
    shutil.rmtree(teacher)
    train("abr", "ppo", teacher, config=dataclasses.replace(ONE, seed=1))
    with pytest.raises(InputError, match=r"trained_on must be that .* pretrain_teacher_sha256"):
        train("abr", "ppo", out, config=config)


@pytest.mark.parametrize(("problem", "teacher"), [("abr", "optimum"), ("cjs", "bound")])
def test_who_cannot_answer_in_the_middle_is_no_teacher(tmp_path, problem, teacher):
    config = PPOConfig(updates=2, episodes=6, pretrain_updates=1, pretrain_teacher=teacher)
    with pytest.raises(InputError, match="pretrain_teacher must be a policy that can go on where"):
        train(problem, "ppo", tmp_path / "run", config=config)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("problem", "case", "config", "sentence"),
    [
        ("vp", {}, ONE, "problem must be a control problem with online RL, got vp"),
        ("abr", {"noise": True}, ONE, "noise must be left out or False in training"),
        ("abr", {"noise_range": "0.8,1.2"}, ONE, "noise_range must be left out in training"),
        ("abr", {"num_jobs": 3}, ONE, "num-jobs must be left out for abr"),
        *(("abr", {"traces": "nosuch"}, config, "traces must be") for config in (ONE, UDRConfig())),
        ("abr", {"video": "nosuch"}, UDRConfig(), "video must be"),
        ("cjs", {"workload": "nosuch"}, DecimaConfig(), "workload must be"),
        ("abr", {}, PPOConfig(baseline="rollouts", episodes=6), "baseline must be critic for abr"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(tmp_path, problem, case, config, sentence):
    with pytest.raises(InputError, match=sentence):
        train(problem, "ppo", tmp_path / "run", case, config)
    assert not (tmp_path / "run").exists()


class GuessEnv(gym.vector.VectorEnv):
    """Five times, an action 0, 1 or 2 earns 1 where it is the number that is shown."""

    def __init__(self, num_envs=1, data="made", autoreset_mode="Disabled"):
        self.num_envs, self.data = num_envs, data
        self.metadata = {"autoreset_mode": gym.vector.AutoresetMode.DISABLED}
        self.single_observation_space = gym.spaces.Box(0.0, 1.0, (3,), np.float32)
        self.single_action_space = gym.spaces.Discrete(3)
        self.loaded = {}
        self._seeds, self._left = np.zeros(num_envs, np.int64), np.zeros(num_envs, np.int64)

    def _shown(self):
        number = (self._seeds + self._left**2) % 3
        return np.eye(3, dtype=np.float32)[number], number

    def reset(self, *, seed=None, options=None):
        rows = np.flatnonzero(options["reset_mask"])
        self._left[rows], self._seeds[rows] = 5, options["of_seed"][rows]
        return self._shown()[0], {"score": np.zeros(self.num_envs)}

    def step(self, actions):
        going = self._left > 0
        rewards = going * (actions == self._shown()[1]).astype(float)
        self._left[going] -= 1
        infos = {"score": rewards.copy()}
        over = np.zeros(self.num_envs, np.bool_)
        return self._shown()[0], rewards, self._left == 0, over, infos

    def case(self, row):
        return {"item": int(self._seeds[row])}

    def training_plan(self, seeds):
        return [PlannedEpisode(seed, {"of_seed": seed % 1000}) for seed in seeds]

    def evaluation_plan(self, at_least=1):
        return self.training_plan(range(at_least))

    def provenance(self, plan):
        return {"data": self.data, "recordings": [f"{self.data}-1"], "sha256": "0"}


class Knowing:
    """Always answers with the number that is shown."""

    name = "knowing"

    def __init__(self, env):
        pass

    def reset(self, rows, seeds):
        pass

    def act(self, observations, rewards, infos):
        return observations.argmax(axis=1)


@dataclasses.dataclass(frozen=True)
class GuessConfig:
    seed: int = 0
    problem: str = "guess"


class GuessNetwork(Network):
    kind = "guess-linear"
    config: GuessConfig

    def __init__(self, config):
        super().__init__()
        self.config = config
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.actor, self.critic = nn.Linear(3, 3), nn.Linear(3, 1)

    def decide(self, observations, draws):
        logits = self.actor(torch.from_numpy(observations)).detach().double().numpy()
        return choose(logits, None if draws is None else draws[0])

    def evaluate_actions(self, observations, actions):
        seen = torch.from_numpy(observations)
        log_probs = torch.log_softmax(self.actor(seen), dim=1)
        chosen = log_probs.gather(1, torch.from_numpy(actions)[:, None])[:, 0]
        entropies = -(log_probs.exp() * log_probs).sum(1)
        return ActionEvaluation(chosen, entropies, self.critic(seen)[:, 0])

    def critic_part(self):
        return self.critic

    def check_env(self, env):
        pass


class GuessOnline(OnlineParts):
    def new_network(self, seed):
        return GuessNetwork(GuessConfig(seed=seed))


@pytest.fixture
def guess(monkeypatch):
    """Register a control problem of another package."""
    monkeypatch.setattr(gym.envs.registration, "registry", dict(gym.registry))
    gym.register("Guess-v0", vector_entry_point=GuessEnv)
    monkeypatch.setattr(index, "PROBLEMS", dict(index.PROBLEMS))
    row = ControlProblem(
        name="guess",
        title="guessing a number",
        env_id="Guess-v0",
        metric="score",
        metric_unit="share",
        components=(),
        default_case={"data": "made"},
        dataset_option="data",
        validation={"made": "made-valid"},
        test_dataset="made-test",
        interval_over="item",
        policies={"knowing": PolicyEntry(f"{__name__}:Knowing")},
        default_policies=("knowing",),
        case_options={"data": CaseOption(str, "")},
        networks={"guess-linear": f"{__name__}:GuessNetwork"},
        online=f"{__name__}:GuessOnline",
    )
    register_problem(row)
    return row


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"baseline": "rollouts", "rollouts": 4, "gamma": 0.5},
        {"pretrain_updates": 3, "pretrain_teacher": "knowing", "pretrain_episodes": 8},
    ],
)
def test_a_problem_of_another_package_is_learned_by_its_row_alone(tmp_path, guess, options):
    config = PPOConfig(
        updates=15, episodes=32, minibatch=40, learning_rate=0.05, entropy_coef=0.0, **options
    )
    told = []
    result = train("guess", "ppo", tmp_path / "run", config=config, on_progress=told.append)
    assert result.best_score == 1.0
    rewards = [each["reward"] for each in told if "reward" in each]
    assert rewards[-1] > 0.9
    assert any("value_loss" in each for each in told) == ("baseline" not in options)
    loaded = load_policy(str(tmp_path / "run"), "guess")
    assert (loaded.trained_on, loaded.recordings) == ("made", {"made-1"})
    further = dataclasses.replace(ONE, init_from=str(tmp_path / "run"))
    again = train("guess", "ppo", tmp_path / "again", {"data": "more"}, further, "made-valid")
    assert again.best_score == 1.0
    assert load_policy(str(tmp_path / "again"), "guess").recordings == {
        "made-1", "more-1", "made-valid-1"
    }  # fmt: skip


CRITICS = {"gae_lambda": 0.5, "value_coef": 1, "advantage_scaling_power": 0, "reward_scale": 1,
           "reward_floor": -1.0}  # fmt: skip


@pytest.mark.parametrize("option", CRITICS)
def test_options_of_the_critic_are_refused_with_rollouts(tmp_path, guess, option):
    config = PPOConfig(updates=1, episodes=4, rollouts=2, baseline="rollouts", threads=0)
    other = dataclasses.replace(config, **{option: CRITICS[option]})
    with pytest.raises(InputError, match=f"{option} must be left out with the baseline rollouts"):
        train("guess", "ppo", tmp_path / "run", config=other)
    assert not (tmp_path / "run").exists()
    train("guess", "ppo", tmp_path / "critic", config=dataclasses.replace(other, baseline=None))


def test_defaults_of_the_problem_are_not_refused_with_rollouts(tmp_path, guess, monkeypatch):
    usual = {"ppo": {"reward_scale": 0.7}}
    monkeypatch.setitem(index.PROBLEMS, "guess", dataclasses.replace(guess, method_defaults=usual))
    config = PPOConfig(updates=1, episodes=4, rollouts=2, baseline="rollouts", threads=0)
    for scale in (0.7, PPOConfig.reward_scale):
        scaled = dataclasses.replace(config, reward_scale=scale)
        train("guess", "ppo", tmp_path / str(scale), config=scaled)


def test_a_problem_without_online_parts_is_refused(tmp_path, guess):
    row = dataclasses.replace(guess, online="")
    with pytest.raises(InputError, match="problem must be a control problem with online RL"):
        train_online(TrainRequest(problem=row, method="ppo", out=tmp_path / "run"), ONE)


def test_the_command_trains_resumes_and_refuses_the_options_of_other_methods(
    tmp_path, folders, capsys
):
    home, away = folders
    out = tmp_path / "run"
    command = ["train", "ppo", "abr", "--traces", home, "--validate-on", away]
    command += ["--episodes", "4", "--updates", "1", "--out", str(out)]
    assert run(command) == 0
    assert "policy in" in capsys.readouterr().out
    assert run(command) == 0  # nothing is left to do
    for more, sentence in [
        (["--pool", "p"], "--pool is an option of llm, bc, cql, dt, not of ppo"),
        (["--difficulty", "2"], "--difficulty is an option of udr, genet, not of ppo"),
        (["--seed", "1"], "must be that of the run in"),
    ]:
        capsys.readouterr()
        assert run([*command, *more]) == 2
        assert sentence in capsys.readouterr().err
    assert run(["train", "udr", "abr", "--difficulty", "4", "--out", str(out)]) == 2
    assert "difficulty must be 1, 2 or 3, got 4" in capsys.readouterr().err
