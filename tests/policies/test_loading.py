"""Anybody's policy: every kind of it plays, is named, recorded, or refused in one sentence."""

import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from netllm_gym import evaluate, load_policy, register_policy
from netllm_gym.collection.collect import collect
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.errors import InputError
from netllm_gym.evaluation.rollout import rollout
from netllm_gym.policies.baselines.abr import BBA
from netllm_gym.policies.baselines.cjs import Fair
from netllm_gym.policies.loading import LoadedPolicy
from netllm_gym.problems.index import PROBLEMS, find_problem, register_problem
from netllm_gym.report.text import render_table
from tests.commands import files_of
from tests.policies import made_policies as made

ROOT = Path(__file__).parents[2]
CLUSTER = {"workload": "synthetic", "num_executors": 4, "num_jobs": 3}
SMALL = {**CLUSTER, "max_stages": 64, "max_jobs": 8}


@pytest.fixture(autouse=True)
def _restored_problems(monkeypatch):
    """Forget the policies that a test registers."""
    for name in ("abr", "cjs", "vp"):
        monkeypatch.setitem(PROBLEMS, name, find_problem(name))


@pytest.fixture
def link(tmp_path):
    """Return a case of two traces."""
    folder = tmp_path / "links"
    folder.mkdir()
    for number in range(2):
        lines = (f"{second} {1.0 + number + second % 7 / 3}\n" for second in range(80))
        (folder / f"{number}.txt").write_text("".join(lines))
    return {"traces": str(folder)}


def played_alone(problem, case, rule):
    """Return the metric of every episode, played in the scalar environment of Gymnasium."""
    row, values = find_problem(problem), []
    env = gym.make(row.env_id, **case).unwrapped
    for planned in row.make_env(1, **case).evaluation_plan():
        observation, _ = env.reset(seed=planned.seed, options=dict(planned.options))
        infos, ended = [], False
        while not ended:
            observation, _, terminated, truncated, info = env.step(rule(observation))
            infos.append(info.get(row.metric))
            ended = terminated or truncated
        values.append(np.mean(infos) if row.metric_over == "mean" else infos[-1])
    return values


@pytest.fixture(scope="module")
def alone_in_cjs():
    return played_alone("cjs", CLUSTER, made.last_stage)


class Callable:
    """An object that is called with an observation."""

    def __call__(self, observation):
        return made.by_buffer(observation)


class NoConstructor:
    """A class that needs no environment."""

    def act(self, observations, rewards, infos):
        return np.array([made.by_buffer(each) for each in observations], np.uint8)


@pytest.mark.parametrize(
    ("policy", "name"),
    [
        (made.by_buffer, "by_buffer"),
        (lambda observation: made.by_buffer(observation), "lambda"),
        (made.Buffer, "Buffer"),
        (NoConstructor, "NoConstructor"),
        (NoConstructor(), "NoConstructor"),
        (Callable(), "Callable"),
        (made.make_buffer, "make_buffer"),
        (made.make_function, "make_function"),
        (made.Model(made.by_buffer), "Model"),
        ("tests.policies.made_policies:Buffer", "Buffer"),
        ("tests.policies.made_policies:by_buffer", "by_buffer"),
    ],
)
def test_every_kind_plays_abr_as_in_the_scalar_environment(link, policy, name):
    bba, mine = evaluate("abr", ["bba", policy], link).rows
    assert mine.policy == name
    assert mine.trained_on == "unknown"
    assert mine.per_episode == pytest.approx(played_alone("abr", link, made.by_buffer))
    # What is not known to be a rule is compared with the baseline, however good it is.
    assert bba.versus is None
    assert mine.versus["policy"] == "bba"


@pytest.mark.parametrize(
    ("policy", "name"),
    [
        (made.last_stage, "last_stage"),
        (made.LastStage, "last"),
        (made.make_function, "make_function"),
        (made.Model(made.last_stage), "Model"),
        ("tests.policies.made_policies:LastStage", "last"),
    ],
)
def test_every_kind_plays_cjs_and_sees_what_gymnasium_shows(alone_in_cjs, policy, name):
    fair, mine = evaluate("cjs", ["fair", policy], CLUSTER).rows
    assert mine.policy == name
    assert mine.per_episode == pytest.approx(alone_in_cjs)
    assert mine.per_episode != fair.per_episode


def test_classes_of_the_package_play_as_by_their_names(link):
    by_name = [evaluate("abr", ["bba"], link), evaluate("cjs", ["fair"], CLUSTER)]
    by_class = [evaluate("abr", [BBA], link), evaluate("cjs", [Fair], CLUSTER)]
    for one, other in zip(by_name, by_class, strict=True):
        assert one.rows[0].per_episode == other.rows[0].per_episode
        assert one.rows[0].policy == other.rows[0].policy


def test_strict_actions_hold_for_policies_of_users():
    with pytest.raises(InputError, match="stage of an action must be schedulable, one of"):
        evaluate("cjs", [made.last_stage], {**CLUSTER, "strict_actions": True})


def test_a_policy_is_told_of_every_episode_once_and_functions_not_after_its_end(link):
    told = []

    class Told:
        def reset(self, rows, seeds):
            told.append(("reset", rows.tolist(), seeds.tolist()))

        def act(self, observations, rewards, infos):
            return np.zeros(len(observations), int)

        def end(self, rows, observations):
            told.append(("end", rows.tolist(), observations.shape))

    env = find_problem("abr").make_env(1, **link)
    plan = env.evaluation_plan()
    rollout(Told, env, plan)
    once = [("reset", [0], [0]), ("end", [0], (1, 6, 6))]
    assert told == [*once, ("reset", [0], [1]), ("end", [0], (1, 6, 6))]
    asked = []
    counted = lambda observation: asked.append(observation.shape) or 0  # noqa: E731
    rollout(counted, find_problem("abr").make_env(5, **link), plan)
    assert asked == [(6, 6)] * (47 * 2)  # of five rows, two play


@pytest.mark.parametrize("answer", [2, np.int8(2), [2], np.array([2], np.uint16), (2,)])
def test_one_row_may_answer_with_a_number(link, answer):
    env = find_problem("abr").make_env(1, **link)
    [episode] = rollout(
        load_policy(made.Wrong(answer)).factory(env), env, env.evaluation_plan()[:1]
    ).episodes
    assert set(episode.actions.tolist()) == {2}


@pytest.mark.parametrize(
    ("problem", "answer", "sentence"),
    [
        ("abr", [2], r"shape \(2,\) in 0..5, got shape \(1,\)"),
        ("abr", [2, 6], r"shape \(2,\) in 0..5, got 6"),
        ("abr", [2, -1], r"shape \(2,\) in 0..5, got -1"),
        ("abr", [2.0, 1.0], r"shape .* in 0..5, got \[2.0, 1.0\] of float64"),
        ("abr", [True, False], r"shape .* in 0..5, got \[True, False\] of bool"),
        ("abr", None, r"shape .* in 0..5, got None"),
        ("abr", [[1], [2, 3]], r"shape .* in 0..5, got \[\[1\], \[2, 3\]\]"),
        ("cjs", [(64, 4)] * 6, r"shape \(6, 2\) in \[0, 0\]..\[64, 3\], got 4"),
        ("cjs", [(65, 0)] * 6, r"shape \(6, 2\) in \[0, 0\]..\[64, 3\], got 65"),
        ("cjs", [1] * 6, r"shape \(6, 2\) .* got shape \(6,\)"),
    ],
)
def test_wrong_answers_are_refused_in_one_sentence(link, problem, answer, sentence):
    case = link if problem == "abr" else SMALL
    rows = 2 if problem == "abr" else 6
    row = find_problem(problem)
    env = row.make_env(rows, **case)
    policy = load_policy(made.Wrong(answer), problem).factory(env)
    with pytest.raises(InputError, match=f"^policy Wrong must return whole numbers of {sentence}$"):
        rollout(policy, env, env.evaluation_plan())


def test_a_function_answers_for_one_row(link):
    with pytest.raises(InputError, match=r"policy pair must return one whole number in 0..5, got"):
        evaluate("abr", [pair], link)


def pair(observation):
    return [1, 2]


def three(observations, rewards, infos):
    return [0] * len(rewards)


class OneArgument:
    def act(self, observations):
        return 0


class Greedy:
    def __init__(self, env, epsilon):
        pass

    act = three


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        (3, r"policy must be a name, a folder, .* or a function of one observation, got 3$"),
        (None, r"policy must be a name, a folder, .*, got None$"),
        (["bba"], r"policy must be a name, a folder, .*, got \['bba'\]$"),
        (made.Nothing, r"policy Nothing must have act\(.*\) or predict\(.*\), got a class without"),
        (made.Nothing(), r"policy must be a name, .*, got <tests.policies.made_policies.Nothing"),
        (three, r"policy three must be a function of one observation, .* got three\(observations"),
        (OneArgument(), r"policy OneArgument must have act\(.*, got act\(observations\)$"),
        (OneArgument, r"policy OneArgument must have act\(.*, got act\(observations\)$"),
        (Greedy, r"policy Greedy must be .* called with env alone, got Greedy\(env, epsilon\)$"),
        (lambda env: 5, r"lambda must make a policy, got 5$"),
        ("tests.policies.made_policies:Bufer", r"got Bufer; did you mean Buffer\?$"),
        ("tests.policies.nothing_there:Buffer", "there is no module tests.policies.nothing_there$"),
        ("no_such_module:Buffer", "there is no module no_such_module$"),
        (
            "tests.policies.made_policies:1",
            'must be a name, a folder or "package.module:Name", got',
        ),
        ("robust_mcp", r"got 'robust_mcp'; did you mean robust_mpc"),
        ("nobody:sampled", "policy must be a folder or one of .*, got 'nobody:sampled'"),
    ],
)
def test_what_is_no_policy_is_refused_in_one_sentence(link, policy, sentence):
    with pytest.raises(InputError, match=sentence) as refused:
        evaluate("abr", [policy], link)
    assert "\n" not in str(refused.value)


def test_a_module_that_lacks_something_itself_says_so(tmp_path, monkeypatch):
    (tmp_path / "needs_more.py").write_text("import nothing_like_this\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nothing_like_this"):
        load_policy("needs_more:Policy")


# Models of Stable-Baselines3 ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def ppo():
    from stable_baselines3 import PPO

    env = gym.make("NetLLM-ABR-v0")
    return PPO("MlpPolicy", env, n_steps=8, batch_size=8, seed=1, device="cpu")


@pytest.fixture(scope="module")
def masked():
    from sb3_contrib import MaskablePPO

    env = gym.make("NetLLM-CJS-v0", **SMALL)
    model = MaskablePPO("MultiInputPolicy", env, n_steps=8, batch_size=8, seed=1, device="cpu")
    model.policy.action_net.bias.data[SMALL["max_stages"]] = -1e6  # or it may idle for ever
    return model


def test_a_model_of_stable_baselines3_plays_abr(link, ppo):
    mine, mpc = evaluate("abr", [ppo, "robust_mpc"], link).rows
    assert (mine.policy, mine.trained_on) == ("PPO", "unknown")
    alone = played_alone("abr", link, lambda seen: ppo.predict(seen, deterministic=True)[0])
    assert mine.per_episode == pytest.approx(alone)
    assert mine.versus["policy"] == "robust_mpc"
    assert mpc.versus is None


def test_a_maskable_model_is_handed_the_masks(masked):
    env = gym.make("NetLLM-CJS-v0", **SMALL).unwrapped

    def rule(seen):
        masks = env.action_masks()
        return masked.predict(seen, deterministic=True, action_masks=masks)[0]

    alone = []
    for planned in find_problem("cjs").make_env(1, **SMALL).evaluation_plan():
        seen, _ = env.reset(seed=planned.seed, options=dict(planned.options))
        ended = False
        while not ended:
            seen, _, ended, _, info = env.step(rule(seen))
            assert not info["invalid_action"]
        alone.append(info["jct_s"])
    [row] = evaluate("cjs", [masked], SMALL).rows
    assert row.policy == "MaskablePPO"
    assert row.per_episode == pytest.approx(alone)


def test_a_model_of_other_spaces_is_refused(link, ppo, masked):
    with pytest.raises(InputError, match=r"observation_space of the model PPO must be that of the"):
        evaluate("cjs", [ppo], SMALL)
    with pytest.raises(
        InputError, match=r"observation_space of the model MaskablePPO must be that"
    ):
        evaluate("cjs", [masked], {**SMALL, "max_stages": 65})
    ladder = gym.spaces.Discrete(3)

    class Three(made.Model):
        observation_space, action_space = ppo.observation_space, ladder

    with pytest.raises(InputError, match=r"action_space of the model Three must be .*\(6\), got"):
        evaluate("abr", [Three(made.by_buffer)], link)


def test_two_models_need_names(link, ppo):
    with pytest.raises(InputError, match=r"different names, got 'PPO' 2 times; .*attribute `name`"):
        evaluate("abr", [ppo, ppo], link)


def test_a_recurrent_model_gets_its_state_and_where_episodes_begin(link):
    seen = []

    class Recurrent:
        def predict(self, observation, state=None, episode_start=None):
            count = np.zeros(len(observation)) if state is None else state
            count = np.where(episode_start, 0, count) + 1
            seen.append(count.copy())
            return np.zeros(len(observation), int), count

    env = find_problem("abr").make_env(1, **link)
    rollout(Recurrent(), env, env.evaluation_plan())
    assert [int(count[0]) for count in seen] == [*range(1, 48)] * 2


# Predictors ---------------------------------------------------------------------------------------


class HistoryOnly:
    def predict(self, history):
        return np.repeat(history[:, -1:], 20, axis=1)


@pytest.mark.parametrize(
    ("predictor", "name"),
    [
        (made.Hold, "Hold"),
        (made.make_hold, "make_hold"),
        (made.hold, "hold"),
        (made.hold_with_content, "hold_with_content"),
        (HistoryOnly(), "HistoryOnly"),
        ("tests.policies.made_policies:Hold", "Hold"),
        ("tests.policies.made_policies:hold", "hold"),
    ],
)
def test_every_kind_of_predictor_predicts(predictor, name):
    known, mine = evaluate("vp", ["hold_last", predictor], {"dataset": "synthetic-test"}).rows
    assert mine.policy == name
    assert mine.per_episode == known.per_episode


@pytest.mark.parametrize(
    ("predictor", "sentence"),
    [
        (
            3,
            r"predictor must be a name, .* or a function of one history, or of .* content, got 3",
        ),
        (made.Nothing, r"predictor Nothing must have predict\(history, content\), got a class"),
        (
            lambda one, two, three: 0,
            "predictor lambda must be a function of history, or history and",
        ),
        (
            lambda history: np.zeros((5, 3)),
            r"lambda must predict angles of shape \(512, 20, 3\), got",
        ),
        (lambda history: "x", r"lambda must predict angles of shape .*, got"),
        (lambda windows: 3, "lambda must make a predictor, got 3"),
        ("hold_lst", "did you mean hold_last"),
    ],
)
def test_what_is_no_predictor_is_refused_in_one_sentence(predictor, sentence):
    with pytest.raises(InputError, match=sentence):
        evaluate("vp", [predictor], {"dataset": "synthetic-test"})


# Names, defaults and what is recorded -------------------------------------------------------------


def test_left_out_the_case_is_the_one_that_bench_takes():
    assert evaluate("vp", [made.hold]).case["dataset"] == "synthetic-test"
    assert evaluate("abr", ["lowest"]).case == {"traces": "synthetic-test", "video": "synthetic"}


def test_others_are_compared_with_the_object_that_is_asked_for(link):
    for versus in (made.by_buffer, "by_buffer"):
        bba, mine = evaluate("abr", ["bba", made.by_buffer], link, versus=versus).rows
        assert bba.versus["policy"] == "by_buffer"
        assert mine.versus is None


def test_a_registered_policy_is_known_by_its_name(link):
    register_policy("rule", made.Buffer)
    register_policy(
        "net", "tests.policies.made_policies:by_buffer", learned=True, trained_on="home"
    )
    rule, net, _ = evaluate("abr", ["rule", "net", "lowest"], link).rows
    assert [rule.policy, net.policy] == ["rule", "net"]
    assert [rule.trained_on, net.trained_on] == ["", "home"]
    assert net.versus["policy"] == "rule"  # a baseline, and the better one
    assert "home" in render_table(evaluate("abr", ["net"], link))
    with pytest.raises(
        InputError, match=r"one of lowest, .*, rule, net, got 'rul'; did you mean rul"
    ):
        evaluate("abr", ["rul"], link)
    register_problem(find_problem("abr"))  # the same problem, registered once more


@pytest.mark.parametrize(
    ("name", "target", "sentence"),
    [
        ("bba", made.Buffer, "policy must have a name that abr does not have, got 'bba'"),
        ("a,b", made.Buffer, r"name must be of letters, digits, _, - and \., got 'a,b'"),
        ("mine", "Buffer", "target must be \"package.module:Name\" or an object, got 'Buffer'"),
        ("mine", 5, "policy must be a name, a folder, .*, got 5"),
        ("mine", made.Nothing, "policy Nothing must have act"),
    ],
)
def test_what_cannot_be_registered_is_refused(name, target, sentence):
    with pytest.raises(InputError, match=sentence):
        register_policy(name, target)
    assert "mine" not in find_problem("abr").policies


def test_a_policy_that_was_loaded_is_taken_as_it_is(link):
    loaded = LoadedPolicy("mine", BBA)
    assert evaluate("abr", [loaded], link).rows[0].n == 2


def test_rollout_takes_names_where_the_environment_is_known(link):
    env = find_problem("abr").make_env(2, **link)
    plan = env.evaluation_plan()
    by_name, by_class = rollout("bba", env, plan), rollout(BBA, env, plan)
    for one, other in zip(by_name.episodes, by_class.episodes, strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)
        assert one.policy == "bba"
    env.spec = None
    with pytest.raises(InputError, match="an environment of no known problem, got 'bba'"):
        rollout("bba", env, plan)


# Pools --------------------------------------------------------------------------------------------


def test_a_pool_of_cjs_holds_native_observations_and_legal_actions(tmp_path):
    pool = collect("cjs", [made.last_stage, "fair"], 2, tmp_path / "pool", CLUSTER)
    actions = np.concatenate([each.actions for each in pool.episodes if each.policy != "fair"])
    assert (actions[:, 0] == -1).any()  # what Gymnasium's face calls an invalid action
    for episode in pool.episodes:
        again = find_problem("cjs").make_env(1, **CLUSTER)
        [played] = rollout(Played(episode.actions), again, plan_of(again, episode)).episodes
        np.testing.assert_array_equal(played.rewards, episode.rewards)
    assert pool.env_spec["custom_policies"] == {
        "last_stage": {
            "made_by": "tests.policies.made_policies:last_stage",
            "trained_on": "unknown",
        }
    }
    assert pool.plan["policies"] == ["tests.policies.made_policies:last_stage", "fair"]


class Played:
    """Plays what was played before."""

    name = "again"

    def __init__(self, actions):
        self.actions = list(actions)

    def reset(self, rows, seeds):
        pass

    def act(self, observations, rewards, infos):
        return self.actions.pop(0)[None]


def plan_of(env, episode):
    [planned] = env.training_plan([episode.seed])
    return [PlannedEpisode(planned.seed, planned.options)]


def test_any_number_of_processes_makes_the_same_pool(tmp_path, link, monkeypatch):
    from dataclasses import replace

    monkeypatch.setitem(PROBLEMS, "abr", replace(PROBLEMS["abr"], shard_episodes=1))
    register_policy("rule", made.Buffer)
    register_policy("here_only", lambda observation: 1)
    policies = [made.by_buffer, "tests.policies.made_policies:make_buffer", "rule"]
    for workers in (1, 2):
        collect("abr", policies, 2, tmp_path / str(workers), link, workers=workers, expert="rule")
    assert files_of(tmp_path / "1") == files_of(tmp_path / "2")


@pytest.mark.parametrize("kind", ["lambda", "object", "registered", "expert"])
def test_what_cannot_be_imported_is_collected_by_one_process_only(tmp_path, link, kind):
    one = lambda observation: 1  # noqa: E731
    register_policy("here_only", one)
    policy = {"lambda": one, "object": NoConstructor(), "registered": "here_only"}.get(kind, "bba")
    expert = one if kind == "expert" else None
    with pytest.raises(InputError, match=r"workers must be 1 for the policy .*, got 2"):
        collect("abr", [policy], 1, tmp_path / "pool", link, workers=2, expert=expert)
    assert not (tmp_path / "pool").exists()
    pool = collect("abr", [policy], 1, tmp_path / "pool", link, expert=expert)
    made_by = {"object": "NoConstructor"}.get(kind, "<lambda>")
    [told] = pool.env_spec["custom_policies"].values()
    assert told["made_by"] == made_by


def test_values_of_actions_may_come_from_a_policy_of_a_user(tmp_path, link):
    for number, policy in enumerate(["bba", BBA, WithEnv]):
        collect("abr", ["lowest"], 1, tmp_path / str(number), link, lookahead=policy)
    values = [
        next(iter(load(tmp_path / str(number)).episodes)).action_values for number in range(3)
    ]
    np.testing.assert_array_equal(values[0], values[1])
    assert not np.array_equal(values[0], values[2])


class WithEnv(made.Buffer):
    """Holds its environment, which no copy of it may copy."""

    def __init__(self, env):
        super().__init__(env)
        self.env = env

    def __deepcopy__(self, memo):
        assert id(self.env) in memo
        return WithEnv(self.env)


def load(folder):
    from netllm_gym.pools.pool import ExperiencePool

    return ExperiencePool.load(folder)


def test_a_default_case_is_collected(tmp_path):
    pool = collect("abr", ["lowest"], 1, tmp_path / "pool")
    assert pool.env_spec["arguments"] == dict(find_problem("abr").default_case)


# The command line ---------------------------------------------------------------------------------

MODULE = """
class Middle:
    def __init__(self, env):
        self.rows = env.num_envs

    def act(self, observations, rewards, infos):
        return [2] * self.rows
"""


def command(folder, *arguments, installed=ROOT):
    """Run the command as it is installed: its path does not hold the current folder."""
    program = "import sys; sys.path.remove(''); from netllm_gym.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{installed}"},
        capture_output=True,
        text=True,
    )


def test_the_command_finds_a_module_of_the_current_folder(tmp_path, link):
    (tmp_path / "my_module.py").write_text(MODULE)
    traces = ("--traces", link["traces"])
    policies = ("--policies", "my_module:Middle,robust_mpc")
    ran = command(tmp_path, "bench", "abr", *policies, *traces)
    assert ran.returncode == 0, ran.stderr
    [mine] = [line for line in ran.stdout.splitlines() if line.startswith("Middle ")]
    assert mine.endswith("unknown")
    assert "vs robust_mpc" in ran.stdout
    ran = command(
        tmp_path,
        "collect",
        "abr",
        *policies,
        *traces,
        *("--episodes", "1", "--out", "pool"),
        *("--workers", "2"),
    )
    assert ran.returncode == 0, ran.stderr
    assert load(tmp_path / "pool").policies == ("Middle", "robust_mpc")
    ran = command(tmp_path, "bench", "abr", "--policies", "my_module:Midle", *traces)
    assert ran.returncode == 2
    assert ran.stderr == (
        "netllm-gym: policy 'my_module:Midle' must name what the module my_module has, got Midle; "
        "did you mean Middle?\n"
    )


def test_a_package_brings_policies_by_an_entry_point(tmp_path, link):
    (tmp_path / "my_module.py").write_text(MODULE)
    info = tmp_path / "my_module-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_module\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[netllm_gym.policies]\nabr.middle = my_module:Middle\nnowhere.middle = my_module:Middle\n"
    )
    ran = command(ROOT, "envs", installed=tmp_path)
    listed = [line for line in ran.stdout.splitlines() if "optimum" in line]
    assert listed[0].endswith(", middle"), ran.stdout + ran.stderr
    assert ran.stdout.count("middle") == 1
    policies = ("--policies", "middle,lowest", "--traces", link["traces"])
    ran = command(ROOT, "bench", "abr", *policies, installed=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert any(line.startswith("middle ") for line in ran.stdout.splitlines())
