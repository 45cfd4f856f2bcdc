"""N clusters at once are N scalar environments, bit for bit, in every autoreset mode."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import netllm_gym  # noqa: F401
from netllm_gym.envs.cjs.observation import ClusterView
from netllm_gym.envs.cjs.vector_env import CJSVectorEnv
from netllm_gym.errors import InputError
from tests.data.cjs.made_jobs import made_workload

ROWS, STEPS = 12, 150
STAGES = 14  # of the observation: fewer than there can be, so that some are hidden
CASE = {
    "workload": made_workload(seed=1),
    "num_executors": 6,
    "num_jobs": 4,
    "mean_gap_s": 3.0,
    "max_stages": STAGES,
    "max_jobs": 3,
}


def make(mode, num_envs=ROWS, **more):
    return gym.make_vec("NetLLM-CJS-v0", num_envs=num_envs, autoreset_mode=mode, **CASE, **more)


def random_actions(rng, stage_mask):
    """Return an action per row: most often a schedulable stage, sometimes any place or none."""
    stages = rng.integers(0, STAGES + 1, len(stage_mask))
    for row, mask in enumerate(stage_mask):
        if mask.any() and rng.random() < 0.9:
            stages[row] = rng.choice(np.flatnonzero(mask))
    return np.stack([stages, rng.integers(0, CASE["num_executors"], len(stages))], axis=1)


def assert_row(row, observations, infos, observation, info):
    for key, part in observation.items():
        assert observations[key].dtype == part.dtype
        np.testing.assert_array_equal(observations[key][row], part, key)
    for key, value in info.items():
        np.testing.assert_array_equal(infos[key][row], value, key)
        assert infos[f"_{key}"][row] or info["jct_s"] == np.inf, key
    assert info.keys() == {key for key in infos if not key.startswith(("_", "final"))}


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_vector_equals_scalar_bit_for_bit(mode):
    vector = make(mode)
    assert vector.metadata["autoreset_mode"] is mode
    scalars = [
        gym.make("NetLLM-CJS-v0", disable_env_checker=True, **CASE).unwrapped for _ in range(ROWS)
    ]
    observations, infos = vector.reset(seed=11)
    for row, env in enumerate(scalars):
        assert_row(row, observations, infos, *env.reset(seed=11 + row))
    rng, ended, episodes, ends = np.random.default_rng(3), np.zeros(ROWS, bool), 0, set()
    hidden = deadlocks = 0
    for step in range(STEPS):
        if mode is AutoresetMode.DISABLED and ended.any():
            observations, infos = vector.reset(options={"reset_mask": ended.copy()})
            for row in np.flatnonzero(ended):
                assert_row(row, observations, infos, *scalars[row].reset())
            ended[:] = False
        actions = random_actions(rng, observations["stage_mask"])
        observations, rewards, terminated, truncated, infos = vector.step(actions)
        hidden += infos["hidden_stages"].any()
        for row, (action, env) in enumerate(zip(actions, scalars, strict=True)):
            if mode is AutoresetMode.NEXT_STEP and ended[row]:
                assert_row(row, observations, infos, *env.reset())
                assert (rewards[row], terminated[row], truncated[row]) == (0.0, False, False)
                ended[row] = False
                continue
            observation, reward, *end, info = env.step(action)
            assert (rewards[row], terminated[row], truncated[row]) == (reward, *end)
            if any(end):
                episodes, deadlocks = episodes + 1, deadlocks + end[1]
                ends.add((row, step))
            if mode is AutoresetMode.SAME_STEP and any(end):
                assert infos["_final_obs"][row]
                assert infos["_final_info"][row]
                final = {key: part[None] for key, part in infos["final_obs"][row].items()}
                last = {key: part[[row]] for key, part in infos["final_info"].items()}
                assert_row(0, final, last, observation, info)
                assert_row(row, observations, infos, *env.reset())
            else:
                assert_row(row, observations, infos, observation, info)
                ended[row] = any(end)
    assert episodes > 2 * ROWS
    assert len({step for _, step in ends}) > 10  # rows end, and begin anew, at different times
    assert hidden
    assert deadlocks


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_unpadded_rows_play_the_same_episodes(mode):
    # Sizes that hide nothing, so that places in both observations are the same.
    sizes = {"max_stages": 64, "max_jobs": 16}
    case = {**CASE, **sizes, "num_envs": ROWS, "autoreset_mode": mode}
    padded, bare = CJSVectorEnv(**case), CJSVectorEnv(**case, padded=False)
    seeds = [5, 5, *range(100, 98 + ROWS)]
    observations, _ = padded.reset(seed=seeds)
    view, _ = bare.reset(seed=seeds)
    rng, ended, episodes = np.random.default_rng(4), np.zeros(ROWS, bool), 0
    for _ in range(STEPS):
        if mode is AutoresetMode.DISABLED and ended.any():
            options = {"reset_mask": ended.copy()}
            observations, _ = padded.reset(options=options)
            view, _ = bare.reset(options=options)
        assert isinstance(view, ClusterView)
        np.testing.assert_array_equal(observations["stage_mask"].sum(axis=1), schedulable_of(view))
        np.testing.assert_array_equal(observations["committable"][:, 0], view.committable)
        shown = observations["stages"][..., 0].sum(axis=1)
        np.testing.assert_array_equal(
            shown, np.bincount(view.stage_row, view.remaining, minlength=ROWS)
        )
        mask = observations["stage_mask"]
        stages = np.where(mask.any(axis=1), (mask * rng.random(mask.shape)).argmax(axis=1), 64)
        stages[rng.random(ROWS) < 0.1] = 64
        counts = rng.integers(0, CASE["num_executors"], ROWS)
        observations, *one = padded.step(np.stack([stages, counts], axis=1))
        view, *other = bare.step(np.stack([np.where(stages == 64, -1, stages), counts], axis=1))
        for mine, its in zip(one[:3], other[:3], strict=True):  # rewards and ends
            np.testing.assert_array_equal(mine, its)
        for key in ("clock_s", "jobs_in_system", "jct_s", "makespan_s", "utilisation"):
            np.testing.assert_array_equal(one[3][key], other[3][key])
        ended = one[1] | one[2]
        episodes += ended.sum()
        if mode is AutoresetMode.SAME_STEP and ended.any():
            last = other[3]["final_obs"][np.flatnonzero(ended)[0]]
            assert (len(last), len(last.stage_id)) == (1, 0)
    assert episodes > ROWS


def schedulable_of(view):
    """Return (N,) how many stages of each row may be chosen."""
    return np.bincount(view.stage_row, view.schedulable, minlength=len(view))


def test_finished_rows_stand_still_when_autoreset_is_disabled():
    vector = make("Disabled")
    observations, _ = vector.reset(seed=0)
    rng, ended = np.random.default_rng(0), np.zeros(ROWS, bool)
    while not ended.all():
        observations, _, terminated, truncated, _ = vector.step(
            random_actions(rng, observations["stage_mask"])
        )
        ended = terminated | truncated
    again, rewards, *ends, infos = vector.step(np.tile([0, 5], (ROWS, 1)))
    for key, part in again.items():
        np.testing.assert_array_equal(part, observations[key])
    np.testing.assert_array_equal(ends, [terminated, truncated])
    assert not rewards.any()
    assert not infos["_jct_s"].any()  # an episode's sums are told once


def test_a_reset_of_some_rows_leaves_the_others_where_they_are():
    whole, part = make("Disabled"), make("Disabled")
    for env in (whole, part):
        env.reset(seed=0)
        env.step(np.tile([0, 1], (ROWS, 1)))
    before, *_ = whole.step(np.tile([STAGES, 0], (ROWS, 1)))
    part.step(np.tile([STAGES, 0], (ROWS, 1)))
    seeds: list = [None] * ROWS
    seeds[3] = 77
    mask = np.arange(ROWS) == 3
    after, infos = part.reset(seed=seeds, options={"reset_mask": mask})
    fresh, _ = make("Disabled", num_envs=1).reset(seed=77)
    for key, now in after.items():
        np.testing.assert_array_equal(now[~mask], before[key][~mask])
        np.testing.assert_array_equal(now[3], fresh[key][0])
    assert infos["_clock_s"].tolist() == mask.tolist()


def test_same_seed_same_episode_in_any_batch_and_row():
    small, large = make("Disabled", num_envs=1), make("Disabled", num_envs=9)
    alone, _ = small.reset(seed=[77])
    seeds = [None] * 9
    seeds[6] = 77
    among, _ = large.reset(seed=seeds)
    rng, ended = np.random.default_rng(1), False
    while not ended:
        for key, part in alone.items():
            np.testing.assert_array_equal(among[key][6], part[0])
        actions = random_actions(rng, among["stage_mask"])
        alone, reward, *ends, _ = small.step(actions[[6]])
        among, rewards, *_ = large.step(actions)
        assert rewards[6] == reward[0]
        ended = ends[0][0] or ends[1][0]


def test_named_arrivals_are_those_of_the_seed_and_begin_anew_with_each_row():
    vector = make("Disabled", num_envs=3)
    named, _ = vector.reset(seed=0, options={"arrival_seed": [9, 4, 9]})
    assert vector.batch.arrival_seeds.tolist() == [9, 4, 9]
    by_seed, _ = make("Disabled", num_envs=1).reset(seed=9)
    for key, part in named.items():
        np.testing.assert_array_equal(part[0], by_seed[key][0])
        np.testing.assert_array_equal(part[2], by_seed[key][0])
    assert vector.case(0) == vector.case(2) != vector.case(1)


def test_unseeded_resets_differ():
    # 12 rows of first jobs, drawn among 6: all alike once in 2e9.
    first, second = (make("Disabled").reset()[0] for _ in range(2))
    assert not np.array_equal(first["stages"], second["stages"])


def test_returned_arrays_are_never_reused():
    vector = make("Disabled", num_envs=3)
    first, infos = vector.reset(seed=0)
    kept = {key: part.copy() for key, part in first.items()}
    clock_s = infos["clock_s"].copy()
    masks = vector.action_masks()
    vector.step(np.tile([0, 1], (3, 1)))
    vector.step(np.tile([0, 5], (3, 1)))
    for key, part in first.items():
        np.testing.assert_array_equal(part, kept[key])
    np.testing.assert_array_equal(infos["clock_s"], clock_s)
    vector.reset(seed=0)
    first["stage_mask"][:] = 0  # whoever writes to it changes no rule
    np.testing.assert_array_equal(vector.action_masks(), masks)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda env: env.reset(seed=[1, 2]), "seed must be one number or 3, got 2"),
        (lambda env: env.reset(options={"reset_mask": np.ones(2, bool)}), "reset_mask must be 3"),
        (
            lambda env: env.reset(options={"arrival_seed": [1, 2]}),
            "arrival_seed must be one whole number or one per row, 3 in all",
        ),
        (lambda env: env.step(np.zeros((3, 2))), r"actions must be whole .*\(3, 2\) of float64"),
        (lambda env: env.step(np.zeros(3, int)), r"shape \(3, 2\), got shape \(3,\)"),
        (
            lambda env: env.step(np.array([[0, 0], [15, 0], [0, 0]])),
            r"stage of an action must be in 0\.\.14, got 15",
        ),
        (
            lambda env: env.step(np.array([[0, 0], [0, 6], [0, 0]])),
            r"executors of an action must be in 0\.\.5, got 6",
        ),
    ],
)
def test_nonsense_is_refused_and_changes_nothing(call, sentence):
    env = make("Disabled", num_envs=3)
    before, _ = env.reset(seed=0)
    with pytest.raises(InputError, match=sentence):
        call(env)
    after, *_ = env.reset(options={"reset_mask": np.array([True, False, False])})
    for key, part in after.items():
        np.testing.assert_array_equal(part[1:], before[key][1:])


def test_unpadded_actions_are_refused_where_they_name_no_place():
    env = CJSVectorEnv(2, **CASE, padded=False)
    env.reset(seed=0)
    with pytest.raises(InputError, match="stage of an action must be at least -1, got -2"):
        env.step(np.array([[0, 0], [-2, 0]]))
    with pytest.raises(InputError, match=r"executors of an action must be in 0\.\.5, got -1"):
        env.step(np.array([[0, 0], [0, -1]]))
