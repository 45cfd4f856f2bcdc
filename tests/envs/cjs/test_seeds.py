"""Which seeds play what: no two episodes share durations by accident, nothing is tested twice."""

from dataclasses import replace
from itertools import product

import gymnasium as gym
import numpy as np
import pytest

from netllm_gym.data.cjs.named import workload
from netllm_gym.envs.cjs.vector_env import FIRST_TRAINING_SEED, TEST_SEEDS, CJSVectorEnv
from netllm_gym.errors import InputError
from netllm_gym.randomness import keys_of_seeds, mix64
from tests.data.cjs.made_jobs import made_workload

MADE = made_workload(seed=1)
PAST_THE_LAST = 2**63


def duration_key(arrival_seed, duration_seed):
    """Return what all durations of an episode follow from."""
    env = CJSVectorEnv(1, MADE, num_jobs=1, padded=False, duration_seed=duration_seed)
    env.reset(options={"arrival_seed": arrival_seed})
    return env.batch.state.rows["key"][0]


def test_no_two_pairs_of_arrival_and_duration_seed_have_the_same_durations():
    keys = {duration_key(*seeds) for seeds in product(range(6), range(6))}
    assert len(keys) == 36


def test_the_default_durations_stay_what_published_tables_were_made_with():
    # v0 with duration_seed 0: mix64(key of the arrivals, xor not the key of seed 0).
    of_arrivals, of_zero = keys_of_seeds([666, 0])
    expected = mix64(np.array([of_arrivals ^ ~of_zero], np.uint64))[0]
    assert duration_key(666, 0) == expected


@pytest.mark.parametrize("seed", [-1, PAST_THE_LAST])
def test_a_seed_that_no_episode_has_is_refused_and_begins_nothing(seed):
    env = CJSVectorEnv(2, MADE, num_jobs=2, autoreset_mode="Disabled")
    with pytest.raises(InputError, match=rf"^seed must be (at least 0|in 0.*), got {seed}"):
        env.reset(seed=[1, seed])
    assert env.batch.done.all()
    with pytest.raises(InputError, match=r"^arrival_seed must be in 0\.\."):
        env.reset(options={"arrival_seed": seed})


def test_the_scalar_environment_refuses_it_too():
    env = gym.make("NetLLM-CJS-v0", workload=MADE, num_jobs=2)
    with pytest.raises(InputError, match=r"^seed must be in 0\.\."):
        env.reset(seed=PAST_THE_LAST)


def arrival_seeds(env, episodes):
    return [planned.options["arrival_seed"] for planned in env.evaluation_plan(episodes)]


def test_no_episode_is_tested_twice_or_trained_on():
    test = CJSVectorEnv(1, MADE)
    valid = CJSVectorEnv(1, replace(MADE, name="made-valid"))
    assert arrival_seeds(test, 1) == [666, 1, 2, 3, 4, 5]
    assert arrival_seeds(test, 20) == [666, *range(1, 20)]
    assert arrival_seeds(valid, 1) == list(range(1000, 1010))
    tested = arrival_seeds(test, len(TEST_SEEDS))
    validated = arrival_seeds(valid, FIRST_TRAINING_SEED - 1000)
    assert len({*tested, *validated}) == len(tested) + len(validated) == FIRST_TRAINING_SEED - 1
    trained = [planned.options["arrival_seed"] for planned in test.training_plan(range(3))]
    assert min(trained) > max(*tested, *validated)
    for env, most in ((test, 999), (valid, 9000)):
        with pytest.raises(
            InputError, match=rf"^episodes must be at most {most}, .* got {most + 1}"
        ):
            env.evaluation_plan(most + 1)


def test_masks_are_those_of_padded_observations():
    with pytest.raises(InputError, match=r"^padded must be True"):
        CJSVectorEnv(1, MADE, padded=False).action_masks()


def test_a_file_of_jobs_has_arrivals_of_its_own_for_validation(tmp_path):
    table = tmp_path / "jobs.csv"
    table.write_text("M1,2,j_1,1,Terminated,5,9,100,0.5\nR2_1,1,j_1,1,Terminated,9,12,100,0.5\n")
    test, valid = (CJSVectorEnv(1, f"{table}{part}") for part in ("", "-valid"))
    assert test.workload.content == valid.workload.content
    assert arrival_seeds(test, 1)[0] == 666
    assert arrival_seeds(valid, 1)[0] == 1000
    recording = tmp_path / "jobs.json"
    recording.write_text(
        '{"kind": "netllm-gym cjs recording 1", "jobs": [{"arrival_ms": 0, "tasks": [1], '
        '"edges": [], "rough_ms": [5], "durations_ms": [[5]]}]}'
    )
    with pytest.raises(InputError, match=r"^workload must have other arrivals for -valid"):
        workload(f"{recording}-valid")
    (tmp_path / "jobs.csv-valid").mkdir()  # what is there is meant
    with pytest.raises(InputError, match="must be a folder of TPC-H, with 2g"):
        workload(f"{table}-valid")
