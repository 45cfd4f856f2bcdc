"""The table: pairing, intervals and provenance."""

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from netllm_gym.data.abr.folders import read_trace_folder
from netllm_gym.data.abr.synthetic import UniformHold, generate_traces
from netllm_gym.data.abr.traces import Trace, TraceSet, write_cooked_trace
from netllm_gym.errors import InputError
from netllm_gym.evaluation.control import score
from netllm_gym.evaluation.evaluate import evaluate
from netllm_gym.evaluation.provenance import code_version
from netllm_gym.evaluation.rollout import rollout
from netllm_gym.evaluation.statistics import bootstrap
from netllm_gym.evaluation.tables import read_table
from netllm_gym.policies.baselines.abr import BBA
from netllm_gym.policies.baselines.abr_mpc import NetLLMMPC
from netllm_gym.policies.loading import SELECTED_ON_SEEN, LoadedPolicy, load_policy
from netllm_gym.problems.index import PROBLEMS
from netllm_gym.report.html import render_report
from netllm_gym.report.text import render_table
from netllm_gym.version import __version__
from tests.policies.made_folders import read_every_folder

RECORDINGS = ("home", "home", "home", "train", "car")


def made_set():
    raw = generate_traces(UniformHold(0.5, 4.0), len(RECORDINGS), seed=3)
    traces = tuple(
        Trace(f"t{number}", *trace, recording=recording)
        for number, (trace, recording) in enumerate(zip(raw, RECORDINGS, strict=True))
    )
    return TraceSet("made", traces)


def test_rows_are_compared_with_the_policy_that_is_asked_for():
    case = {"traces": "synthetic-test"}
    bba, lowest = evaluate("abr", ["bba", "lowest"], case, versus="lowest").rows
    assert lowest.versus is None
    assert bba.versus["policy"] == "lowest"
    assert bba.versus["mean"] == pytest.approx(bba.mean - lowest.mean)
    with pytest.raises(
        InputError, match=r"versus must be one of the policies \(bba, lowest\), got 'bola'"
    ):
        evaluate("abr", ["bba", "lowest"], case, versus="bola")


def test_rows_are_paired_and_compared_with_the_strongest_baseline():
    table = evaluate("abr", ["bba", "robust_mpc", "optimum"], {"traces": made_set()})
    bba, mpc, best = table.rows
    assert table.case == {"traces": "made", "video": "synthetic"}
    assert (bba.n, len(bba.per_episode)) == (5, 5)
    strongest = max((bba, mpc), key=lambda row: row.mean)
    assert strongest.versus is None
    assert best.versus["policy"] == strongest.policy
    assert best.versus["mean"] == pytest.approx(best.mean - strongest.mean)
    assert best.mean <= best.upper_bound + 1e-9
    assert all(np.array(best.per_episode) >= np.array(mpc.per_episode) - 1e-9)
    parts = bba.components
    qoe = parts["bitrate_mbps"] - 4.3 * parts["rebuffer_s"] - parts["smoothness_mbps"]
    assert bba.mean == pytest.approx(qoe)


def test_the_data_are_read_once_for_all_policies(tmp_path, monkeypatch):
    for trace in made_set().traces:
        write_cooked_trace(tmp_path / trace.name, trace.time_s, trace.capacity_mbps)
    read = []

    def counted(folder, *args, **kwargs):
        read.append(folder)
        return read_trace_folder(folder, *args, **kwargs)

    monkeypatch.setattr("netllm_gym.data.abr.sets.read_trace_folder", counted)
    case = {"traces": tmp_path, "chunk_s": 2.0}
    table = evaluate("abr", ["bba", "lowest", "netllm_mpc"], case)
    assert read == [tmp_path]
    assert (table.case["traces"], table.case["chunk_s"]) == (str(tmp_path), "2.0")
    for row in table.rows:  # as each alone
        assert evaluate("abr", [row.policy], case).rows[0].per_episode == row.per_episode


def test_interval_resamples_recordings_not_traces():
    # Two recordings, of 1 and 3 traces. Drawn with replacement: both once (1/2), the first twice
    # (1/4: mean 0), the second twice (1/4: mean 1): the 95 % interval is [0, 1].
    values, groups = np.array([0.0, 1.0, 1.0, 1.0]), np.array([0, 1, 1, 1])
    assert bootstrap(values, groups) == (0.75, (0.0, 1.0))
    # Were traces resampled, all four would have to be the first one for a mean of 0: 1/256.
    assert bootstrap(values, np.arange(4)).ci95[0] > 0.0


def test_one_recording_gives_no_interval():
    assert bootstrap(np.array([1.0, 2.0]), np.array([0, 0])) == (1.5, None)
    home = TraceSet("home", made_set().traces[:3])
    table = evaluate("abr", ["lowest", "bba"], {"traces": home})
    values = json.loads(table.to_json())["rows"]
    assert [row["ci95"] for row in values] == [None, None]
    [versus] = [row["versus"] for row in values if row["versus"]]
    assert versus["ci95"] is None
    lowest = min(table.rows, key=lambda row: row.mean)
    cells = render_table(table).splitlines()[3].split()
    assert cells[1:3] == [f"{lowest.mean:.4f}", "-"]
    assert cells[6:8] == [f"{lowest.versus['mean']:+.4f}", "-"]


def test_interval_of_many_equals_the_normal_one():
    values = np.random.default_rng(1).normal(2.0, 1.0, 400)
    low, high = bootstrap(values, np.arange(400)).ci95
    assert low == pytest.approx(values.mean() - 1.96 * values.std() / 20, abs=0.01)
    assert high == pytest.approx(values.mean() + 1.96 * values.std() / 20, abs=0.01)


def test_score_weighs_recordings_equally():
    problem = PROBLEMS["abr"]
    env = problem.make_env(5, traces=made_set())
    episodes = rollout(BBA(env), env, env.evaluation_plan()).episodes
    means = [episode.rewards.mean() for episode in episodes]
    expected = np.mean([np.mean(means[:3]), means[3], means[4]])
    assert score(problem, BBA, env, env.evaluation_plan()) == pytest.approx(expected)


def test_policy_that_saw_the_case_says_so():
    plain = load_policy("bba")
    leaky = LoadedPolicy("bba", plain.factory, True, "some traces", frozenset({"home", "other"}))
    table = evaluate("abr", [leaky], {"traces": made_set()})
    assert table.rows[0].trained_on == "some traces (leaky: saw 1 of 3 recordings)"


def test_policy_that_was_selected_on_the_case_says_so():
    plain = load_policy("bba")
    chosen = frozenset({"home", "car"})
    leaky = LoadedPolicy("bba", plain.factory, True, "some traces", frozenset(), chosen)
    [row] = evaluate("abr", [leaky], {"traces": made_set()}).rows
    assert row.trained_on == "some traces (leaky: selected on 2 of 3 recordings)"
    both = replace(leaky, recordings=frozenset({"car"}))
    [row] = evaluate("abr", [both], {"traces": made_set()}).rows
    leaks = "leaky: saw 1 of 3 recordings, selected on 2 of 3 recordings"
    assert row.trained_on == f"some traces ({leaks})"
    told = replace(both, trained_on=both.trained_on + SELECTED_ON_SEEN)
    [row] = evaluate("abr", [told], {"traces": made_set()}).rows
    assert row.trained_on == f"some traces ({leaks})"  # not twice
    elsewhere = replace(told, selected_on=frozenset({"other"}))
    [row] = evaluate("abr", [elsewhere], {"traces": made_set()}).rows
    kept = "some traces (selected on its training recordings) (leaky: saw 1 of 3 recordings)"
    assert row.trained_on == kept


def test_a_copy_under_another_name_is_recognised_by_its_content():
    made = made_set()
    plain = load_policy("bba")
    seen = frozenset({made.traces[3].content})  # alone in its recording
    leaky = LoadedPolicy("bba", plain.factory, True, "copies", seen)
    [row] = evaluate("abr", [leaky], {"traces": made}).rows
    assert row.trained_on == "copies (leaky: saw 1 of 3 recordings)"


def test_the_bound_holds_for_more_episodes_than_play_side_by_side(monkeypatch):
    few = evaluate("abr", ["optimum"], {"traces": made_set()}).rows[0]
    monkeypatch.setattr("netllm_gym.evaluation.control.MOST_ROWS", 2)
    many = evaluate("abr", ["optimum"], {"traces": made_set()}).rows[0]
    assert few.upper_bound == many.upper_bound >= many.mean


def test_seeds_that_no_episode_can_have_are_refused():
    for seed, sentence in ((-1, "at least 0, got -1"), (2**63 - 1, r"below 2\*\*63")):
        with pytest.raises(InputError, match=sentence):
            evaluate("abr", ["bba"], {"traces": made_set()}, seed=seed)


@pytest.fixture
def fake_folder(monkeypatch):
    """Let every folder be read as a trained policy, which plays BBA."""
    told = {"traces": "made", "recordings": ["home"], "validation_recordings": ["car", "train"]}
    read_every_folder(monkeypatch, lambda name: told)
    return told


def test_folder_says_what_its_policy_saw_and_was_selected_on(tmp_path, fake_folder):
    loaded = load_policy(str(tmp_path))
    assert (loaded.recordings, loaded.selected_on) == ({"home"}, {"car", "train"})
    del fake_folder["validation_recordings"]  # older folders have none
    assert load_policy(str(tmp_path)).selected_on == frozenset()


def test_names_are_identities(tmp_path, fake_folder):
    folders = [tmp_path / part / "mine" for part in ("one", "two")]
    for folder in (*folders, tmp_path / "bba"):
        folder.mkdir(parents=True)
    case = {"traces": made_set()}
    for twice in (["bba", "bba"], [str(folder) for folder in folders]):
        with pytest.raises(InputError, match=r"policies must have different names, got .* 2 times"):
            evaluate("abr", twice, case)
    with pytest.raises(InputError, match=r"the policy bba of abr, .*; rename the folder"):
        load_policy(str(tmp_path / "bba"))
    rows = evaluate("abr", [str(folders[0]), "bba"], case).rows
    assert [row.policy for row in rows] == ["mine", "bba"]
    assert rows[0].versus["mean"] == 0.0
    assert rows[1].versus is None


def test_compiling_is_no_part_of_a_decision():
    built = []

    def factory(env):
        policy = BBA(env)
        policy.acted = []
        act = policy.act
        policy.act = lambda *seen: policy.acted.append(len(seen[1])) or act(*seen)
        built.append(policy)
        return policy

    mine = LoadedPolicy("bba", factory)
    evaluate("abr", [mine], {"traces": made_set()})
    assert [policy.acted for policy in built] == [[5] * 47, [1]]  # the second one is thrown away


def test_where_lower_is_better_the_last_number_may_count(monkeypatch):
    mirrored = replace(
        PROBLEMS["abr"], metric="bitrate_mbps", metric_over="last", higher_is_better=False
    )
    monkeypatch.setitem(PROBLEMS, "abr", mirrored)
    table = evaluate("abr", ["lowest", "random"], {"traces": made_set()})
    env = mirrored.make_env(5, traces=made_set())
    episodes = rollout(load_policy("random").factory(env), env, env.evaluation_plan()).episodes
    assert table.rows[1].per_episode == [episode.infos["bitrate_mbps"][-1] for episode in episodes]
    assert table.rows[0].mean < table.rows[1].mean
    assert table.rows[1].versus["policy"] == "lowest"
    assert render_table(table).splitlines()[2].split()[0] == "lowest"


@pytest.mark.parametrize(("package", "own"), [("netllm_gym", True), (".venv/netllm_gym", False)])
def test_commit_is_that_of_the_package_not_of_whoever_installed_it(tmp_path, package, own):
    (tmp_path / package).mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    expected = head.stdout[:12] if own else __version__
    assert code_version(tmp_path / Path(package)) == expected


def test_json_is_readable_and_equal_each_time():
    texts = []
    for _ in range(2):
        table = evaluate("abr", ["lowest", "random"], {"traces": made_set()})
        values = json.loads(table.to_json())
        for row in values["rows"]:
            row.pop("decision_ms")  # the one measured time
        texts.append(json.dumps(values))
    assert texts[0] == texts[1]
    assert {"problem", "case", "commit", "rows"} <= values.keys()
    keys = {"policy", "metric", "mean", "ci95", "n", "per_episode", "components", "trained_on"}
    assert keys <= values["rows"][0].keys()


def test_sequential_policies_play_alone_and_in_order():
    table = evaluate("abr", ["netllm_mpc", "bba"], {"traces": made_set()})
    env = PROBLEMS["abr"].make_env(1, traces=made_set())
    plan = env.evaluation_plan()
    in_order = [episode.rewards.mean() for episode in rollout(NetLLMMPC(env), env, plan).episodes]
    assert table.rows[0].per_episode == in_order
    backwards = rollout(NetLLMMPC(env), env, plan[::-1]).episodes[::-1]
    assert [episode.rewards.mean() for episode in backwards] != in_order  # so the order matters


def test_rendered_table_is_sorted_and_says_what_it_shows():
    table = evaluate("abr", ["lowest", "robust_mpc", "optimum"], {"traces": made_set()})
    lines = render_table(table).splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["optimum", "robust_mpc", "lowest"]
    assert "bootstrap over recordings" in lines[-2]
    assert "certified by optimum" in lines[-1]


def test_nothing_is_played_when_one_policy_is_unknown():
    played = []
    with pytest.raises(InputError, match="got 'bb'; did you mean bba"):
        evaluate(
            "abr",
            ["lowest", "bb"],
            {"traces": made_set()},
            on_progress=lambda *said: played.append(said),
        )
    assert not played


@pytest.mark.parametrize(
    ("problem", "policies", "sentence"),
    [
        ("vpn", ["bba"], "problem must be one of abr"),
        ("abr", [], "policies must name at least one"),
        ("abr", ["bba:sampled"], "bba must be named without :sampled"),
    ],
)
def test_wrong_names_are_refused(problem, policies, sentence):
    with pytest.raises(InputError, match=sentence):
        evaluate(problem, policies, {"traces": made_set()})


def test_a_limit_is_a_row_that_nobody_plays_and_nobody_is_compared_with():
    case = {"workload": "synthetic", "num_executors": 4, "num_jobs": 3}
    table = evaluate("cjs", ["fair", "bound", "bound_sure"], case)
    fair, bound, sure = table.rows
    assert fair.versus is None
    for limit in (bound, sure):
        assert limit.versus["policy"] == "fair"
        assert limit.decision_ms is None
        assert set(limit.components.values()) == {None}
    for fast, slow in zip(sure.per_episode, fair.per_episode, strict=True):
        assert fast <= slow
    assert "bound" in render_table(table)
    with pytest.raises(InputError, match="policies must name one that plays, got bound, a limit"):
        evaluate("cjs", ["bound"], case)


SMALL_CLUSTER = {"workload": "synthetic", "num_executors": 4, "num_jobs": 1}


class Idle:
    """Commits no executor, ever."""

    name = "idle"

    def __init__(self, env):
        self.rows = env.num_envs

    def reset(self, rows, seeds):
        pass

    def act(self, observations, rewards, infos):
        return np.full((self.rows, 2), (-1, 0))


class Failing(Idle):
    """Divides by zero."""

    name = "failing"

    def act(self, observations, rewards, infos):
        return 1 // 0


class Exiting(Idle):
    """Ends the program."""

    name = "exiting"

    def act(self, observations, rewards, infos):
        raise SystemExit(3)


class Endless(Idle):
    """Never returns its first decision, and catches every error."""

    name = "endless"

    def act(self, observations, rewards, infos):
        while True:
            with suppress(Exception):
                time.sleep(0.01)


def loaded(kind):
    return LoadedPolicy(kind.name, kind)


def test_a_policy_that_gets_stuck_has_no_row():
    with pytest.raises(InputError, match="idle must finish every episode to have a jct_s"):
        evaluate("cjs", [loaded(Idle)], SMALL_CLUSTER)


def test_a_policy_that_fails_costs_its_own_row():
    alone = evaluate("cjs", ["fair", "srpt"], SMALL_CLUSTER)
    policies = [loaded(Idle), "fair", loaded(Failing), loaded(Exiting), "srpt", loaded(Endless)]
    table = evaluate("cjs", policies, SMALL_CLUSTER, time_limit_s=2.0)
    played = [replace(row, decision_ms=0.0) for row in table.rows]
    assert played == [replace(row, decision_ms=0.0) for row in alone.rows]
    assert "got stuck in 6 of 6" in table.failures["idle"]
    said = table.failures["failing"]
    assert said.startswith("raised ZeroDivisionError: ")
    assert " by zero (test_evaluate.py, line " in said
    assert table.failures["exiting"].startswith("raised SystemExit: 3 (test_evaluate.py, line ")
    assert table.failures["endless"] == "took longer than 2 s, 0 of 6 done"
    assert "endless  no result: took longer than 2 s" in render_table(table)
    assert "endless</span> has no result: took longer than 2 s" in render_report([table], [None])


def test_if_no_policy_is_left_the_errors_are_raised():
    with pytest.raises(ZeroDivisionError):
        evaluate("cjs", [loaded(Failing), "bound"], SMALL_CLUSTER)
    with pytest.raises(InputError, match=r"must finish, got idle: .*; failing: raised ZeroDiv"):
        evaluate("cjs", [loaded(Idle), loaded(Failing)], SMALL_CLUSTER)
    with pytest.raises(InputError, match=r"got endless: took longer than 0\.2 s, 0 of 6 done"):
        evaluate("cjs", [loaded(Endless)], SMALL_CLUSTER, time_limit_s=0.2)


def test_what_is_no_time_limit_is_refused():
    with pytest.raises(InputError, match=r"time_limit_s must be above 0, got 0\.0"):
        evaluate("cjs", ["fair"], SMALL_CLUSTER, time_limit_s=0.0)
    with ThreadPoolExecutor() as threads:  # an alarm can only be set in the main thread
        asked = threads.submit(evaluate, "cjs", ["fair"], SMALL_CLUSTER, time_limit_s=9.0)
        with pytest.raises(InputError, match="time_limit_s must be left out"):
            asked.result()


def test_a_run_that_was_cut_goes_on_with_the_rows_that_it_has(tmp_path):
    file, played = tmp_path / "table.json", []
    policies = ["fair", "random", "srpt", "bound"]

    def cut(policy, done, total, decisions):
        played.append(policy)
        if policy == "srpt" and decisions:
            raise KeyboardInterrupt

    def ask(on_progress, seed=3):
        return evaluate(
            "cjs", policies, SMALL_CLUSTER, on_progress=on_progress, seed=seed, file=file
        )

    whole = ask(None)
    assert read_table(file) == whole
    assert not whole.unfinished
    file.unlink()
    with pytest.raises(KeyboardInterrupt):
        ask(cut)
    kept = read_table(file)
    assert [row.policy for row in kept.rows] == ["fair", "random"]
    played.clear()
    went_on = ask(lambda *said: played.append(said))
    told = {policy: (done, total) for policy, done, total, _ in reversed(played)}  # at first
    assert told == {"fair": (6, 6), "random": (6, 6), "srpt": (0, 6), "bound": (0, 6)}
    assert went_on.rows[0].decision_ms == kept.rows[0].decision_ms  # measured once
    same = [[replace(row, decision_ms=0.0) for row in each.rows] for each in (went_on, whole)]
    assert same[0] == same[1]
    assert (went_on.members, went_on.unfinished) == (whole.members, "")
    # Another seed is another run, and so is a table that is finished.
    for seed in (4, 4):
        played.clear()
        ask(lambda *said: played.append(said[0]), seed)
        assert set(played) == set(policies)


def test_failed_policies_are_tried_again_and_policies_of_users_too(tmp_path):
    file, played = tmp_path / "table.json", []
    mine = replace(loaded(Failing), name="fair", made_by="mine:Fair", factory=load_fair)
    policies = [mine, loaded(Failing), "srpt"]
    assert evaluate("cjs", policies, SMALL_CLUSTER, file=file).failures
    assert read_table(file).unfinished
    evaluate(
        "cjs",
        policies,
        SMALL_CLUSTER,
        on_progress=lambda *said: played.append(said[:2]),
        file=file,
    )
    assert {policy for policy, done in played if done < 6} == {"fair", "failing"}


def load_fair(env):
    return load_policy("fair", "cjs").factory(env)


def test_a_policy_that_does_not_fit_the_case_costs_its_own_row():
    case = {"traces": made_set(), "ladder_mbps": (1.0, 2.5, 5.0)}
    with pytest.raises(InputError, match=r"^ppo: the video must have a ladder of 6 .* got 3"):
        evaluate("abr", ["ppo"], case)
    table = evaluate("abr", ["bba", "ppo", loaded(Unbuilt)], case)
    assert table.rows[0].per_episode == evaluate("abr", ["bba"], case).rows[0].per_episode
    assert [row.policy for row in table.rows] == ["bba"]
    why = "ppo: the video must have a ladder of 6 rungs, as in training, got 3"
    assert table.failures["ppo"] == why
    assert table.failures["unbuilt"].startswith("raised RuntimeError: no (test_evaluate.py, line ")
    assert f"  no result: {why}" in render_table(table)
    assert not any("ppo" in remark for remark in table.remarks)


class Unbuilt:
    name = "unbuilt"

    def __init__(self, env):
        raise RuntimeError("no")
