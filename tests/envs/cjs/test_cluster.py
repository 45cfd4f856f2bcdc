"""What the constants of a cluster and its exchangeable rules change, in sums by hand."""

import math

import numpy as np
import pytest

from netllm_gym.data.cjs.workload import JobTemplate, Waves, Workload
from netllm_gym.envs.cjs.cluster import ClusterConfig
from netllm_gym.envs.cjs.env import CJSEnv
from netllm_gym.envs.cjs.vector_env import CJSVectorEnv
from netllm_gym.errors import InputError
from tests.data.cjs.made_jobs import recorded

NO_STAGE = 8


def begin(workload, num_executors, num_jobs=None, mean_gap_s=25.0, **cluster):
    """Return an environment with places for eight stages, at its first decision."""
    config = ClusterConfig(**{"moving_delay_s": 0.0, **cluster})
    env = CJSEnv(
        workload,
        num_executors=num_executors,
        num_jobs=num_jobs,
        mean_gap_s=mean_gap_s,
        cluster=config,
        max_stages=8,
        max_jobs=4,
    )
    env.reset(seed=0)
    return env


def take(env, *actions):
    """Take decisions (stage, executors at most); return what the last one says."""
    for stage, executors in actions:
        step = env.step(np.array([stage, executors - 1]))
    return step


def one_stage(waves, num_tasks):
    return Workload.of_jobs("one stage", [JobTemplate("job", [num_tasks], [], [waves])])


@pytest.mark.parametrize(("delay_s", "jct_s"), [(0.0, 4.0), (2.0, 6.0), (0.25, 4.25)])
def test_an_executor_moves_to_its_first_job_too(delay_s, jct_s):
    # One executor, tasks of 1 and 3 s.
    env = begin(recorded((0, [[1, 3]], [])), 1, moving_delay_s=delay_s)
    assert take(env, (0, 1))[4]["jct_s"] == jct_s


def test_warm_up_is_added_where_no_duration_has_it():
    # Three tasks on one executor: a fresh one, then two later ones of 2 s.
    known = Waves({5: [7000]}, {5: [3000]}, {5: [2000]})
    unknown = Waves({5: []}, {5: [3000]}, {5: [2000]})
    for waves, warmup_s, jct_s in ((known, 1.5, 7 + 4), (unknown, 1.5, 3 + 1.5 + 4)):
        env = begin(one_stage(waves, 3), 1, num_jobs=1, warmup_delay_s=warmup_s)
        assert take(env, (0, 1))[4]["jct_s"] == jct_s


@pytest.mark.parametrize(
    ("fresh", "first", "rest", "busy_s", "jct_s"),
    [
        # Both begin stage 0 fresh, 0..7. At 7 the first to end idles and begins stage 1 fresh,
        # 7..14; the other was promised to it while it worked: 7..10, 10..12, 12..14.
        (7, 3, 2, 7 + 7 + 7 + 3 + 2 + 2, 14.0),
        # Later tasks as the first: 7..14, and 7..10, 10..13, 13..16.
        (7, 3, None, 7 + 7 + 7 + 3 + 3 + 3, 16.0),
        # The first task in a stage as a fresh one, without warm-up: 7..14 twice, 14..16 twice.
        (7, None, 2, 7 + 7 + 7 + 7 + 2 + 2, 16.0),
        # All as a fresh one: 0..7, 7..14, 14..21.
        (7, None, None, 6 * 7, 21.0),
        # Fresh as a first one and 1 s of warm-up: 0..4 twice; 4..8, 8..10 and 4..7, 7..9.
        (None, 3, 2, 4 + 4 + 4 + 3 + 2 + 2, 10.0),
    ],
)
def test_an_executors_wave_is_what_it_did_before(fresh, first, rest, busy_s, jct_s):
    waves = Waves(*({5: [] if s is None else [1000 * s]} for s in (fresh, first, rest)))
    job = JobTemplate("job", [2, 4], [], [waves, waves])
    env = begin(Workload.of_jobs("waves", [job]), 2, num_jobs=1)
    info = take(env, (0, 2), (1, 2))[4]
    assert info["jct_s"] == jct_s
    assert info["utilisation"] == pytest.approx(busy_s / (2 * jct_s))


def test_an_executor_is_fresh_in_another_job():
    # As above, but promised to another job while it works: all four tasks are fresh, 7 s each.
    workload = one_stage(Waves({5: [7000]}, {5: [3000]}, {5: [2000]}), 2)
    env = begin(workload, 2, num_jobs=2, mean_gap_s=1e-9)
    info = take(env, (0, 2), (1, 2))[4]
    assert info["makespan_s"] == pytest.approx(14.0)
    assert info["utilisation"] == pytest.approx(1.0)


@pytest.mark.parametrize(("interpolation", "mean_s"), [("inverted", 2.6), ("linear", 1.4)])
def test_interpolation_says_which_of_two_levels_is_likelier(interpolation, mean_s):
    # 1 s at level 5, 3 s at level 10. Six executors are one past 5 and four before 10: the
    # reference takes level 5 with chance 1/5, hence 1/5 x 1 + 4/5 x 3 = 2.6 s; the other 1.4 s.
    levels = {5: [1000], 10: [3000]}
    workload = one_stage(Waves(levels, levels, levels), 4000)
    env = begin(workload, 6, num_jobs=1, interpolation=interpolation)
    info = take(env, (0, 6))[4]
    busy_s = info["utilisation"] * info["makespan_s"] * 6
    # One draw return_std by 0.8 s, the mean of 4000 by 0.013.
    assert busy_s / 4000 == pytest.approx(mean_s, abs=0.06)


@pytest.mark.parametrize("interpolation", ["inverted", "linear"])
def test_at_a_known_level_and_below_all_there_is_nothing_to_interpolate(interpolation):
    # 1 s at level 5, 3 s at level 10. Ten executors arrive one after the other, and the n-th
    # counts n: up to 5 of them take 1 s for sure, the tenth and all later tasks 3 s.
    levels = {5: [1000], 10: [3000]}
    workload = one_stage(Waves(levels, levels, levels), 8)
    for executors, jct_s in ((1, 8.0), (5, 2.0)):
        env = begin(workload, executors, num_jobs=1, interpolation=interpolation)
        assert take(env, (0, executors))[4]["jct_s"] == jct_s
    env = begin(one_stage(Waves(levels, levels, levels), 1000), 10, 1, interpolation=interpolation)
    info = take(env, (0, 10))[4]
    busy_s = info["utilisation"] * info["makespan_s"] * 10
    # Of 1000 tasks 5 take 1 s, those of the sixth to the ninth executor 1 or 3 s, 991 take 3 s.
    assert 5 + 4 * 1 + 991 * 3 - 1e-6 <= busy_s <= 5 + 4 * 3 + 991 * 3 + 1e-6


@pytest.mark.parametrize(("backup", "left"), [("last", [1, 0]), ("first", [0, 1])])
def test_backup_is_the_last_or_the_first_stage_that_may_be_chosen(backup, left):
    # Stages of 1 and 2.5 s, of 1 and 1 s, of 5 s, of 9 s; none waits. Both executors begin with
    # stage 0. At 1 s one is idle, and both are promised to stage 1. It does 1..2 and 2..3; the
    # other one ends at 2.5 and finds no task left: it turns to stage 2 or 3.
    env = begin(recorded((0, [[1, 2.5], [1, 1], [5], [9]], [])), 2, backup=backup)
    info = take(env, (0, 2))[4]
    assert info["clock_s"] == 1.0
    observation, *_, info = take(env, (1, 2))
    assert info["clock_s"] == 3.0
    assert observation["stages"][:3, 0].tolist() == [*left, 0]  # stages 2 and 3 are left
    # The one that is idle at 3 s takes the other: 3 + 5 and 2.5 + 9, or 2.5 + 5 and 3 + 9.
    jct_s = take(env, (left.index(1), 1))[4]["jct_s"]
    assert jct_s == {"last": 11.5, "first": 12.0}[backup]


def test_backup_in_another_job_is_the_last_or_the_first_too():
    # Two stages of job 0 keep both executors as above; jobs 1, 2 and 3 are there to turn to.
    jobs = ((0, [[1, 2.5], [1, 1]], []), *((0, [[1]], []) for _ in range(3)))
    for backup, job in (("last", 3), ("first", 1)):
        env = begin(recorded(*jobs), 2, backup=backup, moving_delay_s=2.0)
        take(env, (0, 2))
        observation = take(env, (1, 2))[0]
        # Job 0 is complete by the next decision; the one that turned away is on its way.
        wanted = [int(number == job) for number in (1, 2, 3)]
        assert observation["job_executors"].tolist() == [*wanted, -1]


@pytest.mark.parametrize(("forgets", "supply"), [(False, 2), (True, 1)])
def test_supply_forgets_idle_executors_or_counts_them_on(forgets, supply):
    # Both executors work for job 0, 1 and 3 s. At 1 s one has nothing left to do, as job 0 has no
    # task left and job 1 is not there; it goes to the common pool. At 2 s job 1 arrives.
    load = recorded((0, [[1, 3]], []), (2, [[1]], []))
    env = begin(load, 2, supply_forgets_idle=forgets)
    observation, *_, info = take(env, (0, 2))
    assert (info["clock_s"], observation["committable"].item()) == (2.0, 1)
    assert observation["job_executors"].tolist() == [supply, 0, -1, -1]


@pytest.mark.parametrize(
    ("reoffers", "clock_s", "committable", "source"), [(False, 4.0, 1, 0), (True, 1.0, 1, -1)]
)
def test_idle_executors_are_offered_again_or_left_idle(reoffers, clock_s, committable, source):
    # One executor does the tasks of 1 and 3 s; the other was left in the common pool though
    # stage 1 may be chosen. Asked again at the end of the first task, or when the stage's tasks
    # are all done and only the one that did them is offered.
    env = begin(recorded((0, [[1, 3], [2]], [])), 2, reoffer_idle=reoffers)
    observation, *_, info = take(env, (0, 1), (NO_STAGE, 1))
    assert info["clock_s"] == clock_s
    assert observation["committable"].item() == committable
    assert observation["source_job"].item() == source
    # Stage 1 takes 2 s more: from 1 s on beside the other stage, that ends at 4 s, or after it.
    stage = int(observation["stage_mask"].argmax())
    assert take(env, (stage, 1))[4]["jct_s"] == {False: 6.0, True: 4.0}[reoffers]


def test_reoffering_ends_even_if_nobody_ever_takes_an_executor():
    env = begin(recorded((0, [[1, 3, 1, 1], [2]], [])), 3, reoffer_idle=True)
    step = take(env, (0, 1))
    decisions = 0
    while not (step[2] or step[3]):
        step = take(env, (NO_STAGE, 1))
        decisions += 1
    assert step[3]
    assert decisions <= 1 + 5  # the first round's, and one per task


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"moving_delay_s": -0.1}, "moving_delay_s must be at least 0 and finite, got -0.1"),
        ({"moving_delay_s": math.inf}, "moving_delay_s must be at least 0 and finite, got inf"),
        ({"warmup_delay_s": math.nan}, "warmup_delay_s must be at least 0 and finite, got nan"),
        ({"interpolation": "none"}, "interpolation must be inverted or linear, got 'none'"),
        ({"backup": "best"}, "backup must be last or first, got 'best'"),
    ],
)
def test_wrong_constants_are_refused(wrong, sentence):
    with pytest.raises(InputError) as refusal:
        ClusterConfig(**wrong)
    assert str(refusal.value) == sentence


RECORDING = recorded((0, [[1], [1]], [(0, 1)]), (1, [[1]], []))
THREE = Workload.of_jobs("three", [JobTemplate("job", [1] * 3, [(0, 1), (0, 2)], [[1]] * 3)])


@pytest.mark.parametrize("kind", [CJSEnv, CJSVectorEnv])
@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"workload": "tpcg"}, "workload must be "),
        ({"workload": "nowhere/at/all"}, "workload must be "),
        ({"num_executors": 0}, "num_executors must be in 1..10000, got 0"),
        ({"num_executors": 2.0}, "num_executors must be a whole number, got 2.0"),
        ({"num_executors": True}, "num_executors must be a whole number, got True"),
        ({"num_jobs": -1}, "num_jobs must be in 1..100000, got -1"),
        ({"num_jobs": 0, "workload": RECORDING}, "num_jobs must be in 1..100000, got 0"),
        ({"mean_gap_s": 0.0}, "mean_gap_s must be above 0 and finite, got 0.0"),
        ({"mean_gap_s": math.nan}, "mean_gap_s must be above 0 and finite, got nan"),
        ({"mean_gap_s": "1"}, "mean_gap_s must be above 0 and finite, got '1'"),
        ({"cluster": {"backup": "none"}}, "backup must be last or first, got 'none'"),
        ({"duration_seed": -1}, "duration_seed must be in 0..9223372036854775807, got -1"),
        ({"max_stages": 2, "workload": THREE}, "max_stages must hold the largest job of three, 3"),
        ({"max_edges": 1, "workload": THREE}, "max_edges must hold the largest job of three, 2"),
        ({"max_stages": 0}, "max_stages must be in 1..1048576, got 0"),
        ({"max_stages": 99.5}, "max_stages must be a whole number, got 99.5"),
        ({"max_jobs": "9"}, "max_jobs must be a whole number, got '9'"),
        ({"max_jobs": 0}, "max_jobs must be in 1..1048576, got 0"),
        ({"render_mode": "human"}, "render_mode must be None"),
    ],
)
def test_wrong_arguments_are_refused_in_one_sentence(kind, wrong, sentence):
    with pytest.raises(InputError) as refusal:
        kind(**wrong)
    assert str(refusal.value).startswith(sentence)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("asked", "played"), [(None, 2), (1, 1), (2, 2), (3, 2)])
def test_a_recording_plays_its_jobs_or_the_first_of_them(asked, played):
    assert CJSVectorEnv(1, RECORDING, num_jobs=asked).num_jobs == played


def test_a_long_recording_is_played_whole():
    long = recorded(*((each, [[1]], []) for each in range(201)))
    assert CJSVectorEnv(1, long).num_jobs == 201


def test_only_who_asks_for_a_padded_view_needs_room_for_the_largest_job():
    env = CJSVectorEnv(1, THREE, num_jobs=1, max_stages=2, padded=False)
    env.reset(seed=0)
    with pytest.raises(InputError, match="max_stages must hold the largest job of three, 3, got 2"):
        env.public_env()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda env: env.step(np.array([0, 0])), "step must follow reset"),
        (lambda env: env.reset(options={"arrival": 1}), "options must be arrival_seed or reset_ma"),
        (lambda env: env.reset(options={"reset_mask": [True]}), "options must be arrival_seed"),
        (
            lambda env: env.reset(options={"arrival_seed": -1}),
            "arrival_seed must be in 0..9223372036854775807, got -1",
        ),
        (lambda env: env.reset(options={"arrival_seed": 1.0}), "arrival_seed must be one whole"),
        (lambda env: env.reset(options={"arrival_seed": 2**63}), "arrival_seed must be in 0..9223"),
        (lambda env: env.reset(options={"arrival_seed": 2**70}), "arrival_seed must be one whole"),
        (lambda env: env.reset(seed=2**70), "seed must be in 0..9223372036854775807, got 11805916"),
    ],
)
def test_wrong_resets_are_refused_in_one_sentence(call, sentence):
    env = CJSEnv(THREE, num_executors=2, num_jobs=1)
    with pytest.raises(InputError) as refusal:
        call(env)
    assert str(refusal.value).startswith(sentence)


@pytest.mark.parametrize(
    ("action", "sentence"),
    [
        (np.array([9, 0]), "stage of an action must be in 0..8, got 9"),
        (np.array([-1, 0]), "stage of an action must be in 0..8, got -1"),
        (np.array([0, 2]), "executors of an action must be in 0..1, got 2"),
        (np.array([0, -1]), "executors of an action must be in 0..1, got -1"),
        (np.array([0.0, 0.0]), "actions must be whole numbers of shape (1, 2), got shape"),
        (np.array([0]), "actions must be whole numbers of shape (1, 2), got shape (1, 1)"),
        ("go", "actions must be whole numbers of shape (1, 2), got shape (1,)"),
        (None, "actions must be whole numbers of shape (1, 2), got shape (1,)"),
    ],
)
def test_what_is_no_action_is_refused_and_changes_nothing(action, sentence):
    env = begin(RECORDING, 2)
    before = env.batch.view()
    with pytest.raises(InputError) as refusal:
        env.step(action)
    assert str(refusal.value).startswith(sentence)
    np.testing.assert_array_equal(env.batch.view().remaining, before.remaining)
    assert not env.batch.done[0]
