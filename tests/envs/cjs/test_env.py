"""One cluster: sums by hand, masks, ends, refusals, and what each switch changes."""

import math

import numpy as np
import pytest

import netllm_gym  # noqa: F401
from netllm_gym.data.cjs.workload import JobTemplate, Workload
from netllm_gym.envs.cjs.cluster import ClusterConfig
from netllm_gym.envs.cjs.env import CJSEnv
from netllm_gym.errors import InputError
from tests.data.cjs.made_jobs import made_workload, recorded

AT_ONCE = {"moving_delay_s": 0.0}
ONE_JOB = recorded((0, [[1, 3]], []))


def make(workload, num_executors, cluster=None, **more):
    """Return an environment with places for eight stages; the ninth is "no stage"."""
    sizes = {"max_stages": 8, "max_jobs": 4, **more}
    config = ClusterConfig(**(cluster or {}))
    return CJSEnv(workload, num_executors=num_executors, cluster=config, **sizes)


NO_STAGE = 8


def play(env, policy, **reset):
    """Return rewards and the last step of an episode whose actions are policy(observation)."""
    observation, _ = env.reset(**reset)
    rewards, ended = [], False
    while not ended:
        observation, reward, terminated, truncated, info = env.step(policy(observation))
        rewards.append(reward)
        ended = terminated or truncated
    return rewards, terminated, truncated, info


def first_stage(observation):
    """Give the first schedulable stage all that it can use."""
    return np.array([observation["stage_mask"].argmax(), len(observation["executor_mask"]) - 1])


def any_stage(seed):
    """Give any schedulable stage any number of executors."""
    rng = np.random.default_rng(seed)

    def policy(observation):
        stage = rng.choice(np.flatnonzero(observation["stage_mask"]))
        return np.array([stage, rng.integers(0, len(observation["executor_mask"]))])

    return policy


def test_an_episode_worked_out_by_hand():
    # Job 0: tasks of 1 and 3 s; job 1, from 5 s on: one of 2 s. One executor, 2 s away from each.
    # It arrives at 2, works 2..3 and 3..6, is sent to job 1, arrives at 8 and works 8..10.
    env = make(recorded((0, [[1, 3]], []), (5, [[2]], [])), num_executors=1)
    rewards, terminated, truncated, info = play(env, first_stage)
    assert (terminated, truncated) == (True, False)
    # Up to 6 s job 0 waits 6 s and job 1 waits 1 s; then job 1 waits 4 s more.
    assert rewards == [-7.0, -4.0]
    assert info["jct_list_s"].tolist() == [6.0, 5.0]
    assert (info["jct_s"], info["jct_p95_s"], info["makespan_s"]) == (5.5, 6.0, 10.0)
    assert info["utilisation"] == pytest.approx((1 + 3 + 2) / 10)
    assert (info["clock_s"], info["jobs_in_system"], info["deadlock"]) == (10.0, 0.0, 0.0)


def test_an_observation_worked_out_by_hand():
    # Stage 1 waits for stage 0, stage 2 for nobody; durations are means until a task begins.
    env = make(recorded((0, [[1, 3], [4], [6, 6]], [(0, 1)])), num_executors=4)
    observation, info = env.reset()
    assert observation["stages"][:3].tolist() == [[2, 2, 2], [1, 1, 4], [2, 2, 6]]
    assert not observation["stages"][3:].any()
    assert observation["stage_job"].tolist() == [0, 0, 0] + [-1] * 5
    assert observation["edges"].tolist() == [[0, 1]] + [[-1, -1]] * 15
    assert observation["job_executors"].tolist() == [0, -1, -1, -1]
    assert (observation["committable"].item(), observation["source_job"].item()) == (4, -1)
    assert observation["stage_mask"].tolist() == [1, 0, 1, 0, 0, 0, 0, 0]
    assert observation["executor_mask"].tolist() == [1, 1, 1, 1]
    assert info["hidden_stages"] == 0.0
    # Stage 0 gets the two that it can use, though three were named; then its child is offered.
    observation, reward, *_ = env.step(np.array([0, 2]))
    assert (reward, observation["committable"].item()) == (0.0, 2)
    assert observation["stages"][:3].tolist() == [[2, 0, 2], [1, 1, 4], [2, 2, 6]]
    assert observation["stage_mask"].tolist() == [0, 1, 1, 0, 0, 0, 0, 0]
    assert observation["executor_mask"].tolist() == [1, 1, 0, 0]
    assert observation["job_executors"].tolist() == [2, -1, -1, -1]


def test_masks_say_what_each_part_of_an_action_may_be():
    env = make(recorded((0, [[1, 3], [4], [6, 6]], [(0, 1)])), num_executors=4)
    env.reset()
    stages, executors = np.split(env.action_masks(), [9])
    # No job comes and nothing runs, so nobody would be asked again after "no stage".
    assert stages.tolist() == [True, False, True] + [False] * 5 + [False]
    assert executors.tolist() == [True] * 4
    env.step(np.array([2, 0]))
    stages, executors = np.split(env.action_masks(), [9])
    assert stages.tolist() == [True] + [False] * 7 + [True]  # nothing twice in a round
    assert executors.tolist() == [True] * 3 + [False]


def test_what_the_masks_allow_is_never_invalid_and_what_they_forbid_always_is():
    env = make(made_workload(seed=4), num_executors=5, num_jobs=6, mean_gap_s=2.0, max_stages=24)
    rng = np.random.default_rng(0)
    forbidden = 0
    for seed in range(20):
        env.reset(seed=seed)
        ended = False
        while not ended:
            allowed = env.action_masks()[:25]
            stage = rng.integers(0, 25) if rng.random() < 0.2 else rng.choice(np.where(allowed)[0])
            *_, terminated, truncated, info = env.step(np.array([stage, rng.integers(0, 5)]))
            assert info["invalid_action"] == (not allowed[stage])
            forbidden += not allowed[stage]
            ended = terminated or truncated
    assert forbidden > 20


def test_an_invalid_action_counts_as_no_stage():
    load = recorded((0, [[1, 3], [4], [6, 6]], [(0, 1)]), (9, [[1]], []))
    wrong, none = make(load, 4), make(load, 4)
    for env in (wrong, none):
        env.reset()
        env.step(np.array([2, 0]))
    seen = wrong.step(np.array([1, 3]))
    other = none.step(np.array([NO_STAGE, 3]))
    assert (seen[4].pop("invalid_action"), other[4].pop("invalid_action")) == (1.0, 0.0)
    np.testing.assert_equal(seen, other)


@pytest.mark.parametrize("stage", [1, 3, 7])
def test_strict_actions_name_the_legal_stages(stage):
    env = make(recorded((0, [[1, 3], [4], [6, 6]], [(0, 1)])), num_executors=4, strict_actions=True)
    before, _ = env.reset()
    sentence = rf"must be schedulable, one of 0, 2 \(8: no stage\), got {stage}$"
    with pytest.raises(InputError, match=sentence):
        env.step(np.array([stage, 0]))
    after, *_ = env.step(np.array([0, 0]))  # nothing was done: there are still all to commit
    assert after["committable"] == before["committable"] - 1
    env.step(np.array([NO_STAGE, 0]))  # an executor works, so the others may wait


def test_hidden_stages_come_into_view_when_older_jobs_complete():
    # Three jobs of two stages at once, room for two of them.
    job = [[1], [1]]
    load = recorded((0, job, [(0, 1)]), (0, job, [(0, 1)]), (0, job, [(0, 1)]))
    env = make(load, 1, max_stages=4)
    observation, info = env.reset()
    assert info["hidden_stages"] == 2.0
    assert info["jobs_in_system"] == 3.0
    assert observation["stage_job"].tolist() == [0, 0, 1, 1]
    hidden, ended = [], False
    while not ended:
        observation, _, ended, _, info = env.step(first_stage(observation))
        hidden.append(info["hidden_stages"])
    # One decision per stage of one task: after the third job 0 is complete, and none is hidden.
    assert hidden == [2.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_an_episode_in_which_nothing_will_happen_is_truncated():
    env = make(ONE_JOB, num_executors=3)
    env.reset()
    observation, reward, terminated, truncated, info = env.step(np.array([NO_STAGE, 0]))
    # As if the job had ended after its two tasks, 3 s and a warm-up of 1 s each, one after the
    # other, and four moves of 2 s before and after the first stage.
    assert (reward, terminated, truncated) == (-(2 * (3 + 1) + 4 * 2 + 4 * 2), False, True)
    assert (info["jct_s"], info["makespan_s"], info["deadlock"]) == (math.inf, math.inf, 1.0)
    assert info["jct_list_s"].tolist() == [math.inf]
    assert observation in env.observation_space
    assert not env.action_masks()[:8].any()
    with pytest.raises(InputError, match="step must follow reset, got a step after"):
        env.step(np.array([NO_STAGE, 0]))


def test_strict_actions_refuse_to_end_in_a_deadlock():
    env = make(ONE_JOB, num_executors=3, strict_actions=True)
    env.reset()
    with pytest.raises(InputError, match=r"must be schedulable, one of 0 \(8: no stage\), got 8"):
        env.step(np.array([NO_STAGE, 0]))


def test_no_stage_is_offered_only_if_somebody_is_asked_again():
    # One executor works at the only task of stage 0, and the other could go to stage 1.
    load = recorded((0, [[9], [1, 1]], []), (5, [[1]], []))
    env = make(load, num_executors=2, cluster=AT_ONCE)
    env.reset()
    assert env.action_masks()[NO_STAGE]  # the second job will be offered them
    env.step(np.array([0, 0]))
    assert env.action_masks()[NO_STAGE]
    _, _, _, _, info = env.step(np.array([NO_STAGE, 0]))
    assert info["clock_s"] == 5.0
    assert env.action_masks()[NO_STAGE]  # until stage 0 ends
    _, _, _, _, info = env.step(np.array([NO_STAGE, 0]))
    assert info["clock_s"] == 9.0
    assert not env.action_masks()[NO_STAGE]
    *_, truncated, info = env.step(np.array([NO_STAGE, 0]))
    assert (truncated, info["jobs_in_system"]) == (True, 2.0)


def test_no_stage_before_a_later_arrival_waits_for_it():
    env = make(recorded((0, [[1]], []), (7, [[1]], [])), num_executors=1)
    env.reset()
    observation, reward, _, truncated, info = env.step(np.array([NO_STAGE, 0]))
    assert (reward, truncated, info["clock_s"]) == (-7.0, False, 7.0)
    assert observation["stage_mask"][:2].tolist() == [1, 1]


def test_arrivals_are_those_of_the_seed_or_of_the_option():
    env = make(made_workload(seed=4), 5, num_jobs=6, mean_gap_s=2.0, max_stages=24)
    by_seed = play(env, first_stage, seed=8)
    by_option = play(env, first_stage, seed=3, options={"arrival_seed": 8})
    np.testing.assert_equal(by_seed, by_option)
    assert by_seed[0] != play(env, first_stage, seed=3)[0]
    # A chain of unnamed episodes follows from its seed.
    chains = []
    for _ in range(2):
        env.reset(seed=5)
        chains.append([play(env, first_stage)[0] for _ in range(3)])
    assert chains[0] == chains[1]
    assert chains[0][0] != chains[0][1] != chains[0][2]


def test_duration_seed_changes_durations_and_not_arrivals():
    def jobs_and_work(duration_seed):
        env = make(
            made_workload(seed=4), 5, num_jobs=6, mean_gap_s=2.0, max_stages=24,
            duration_seed=duration_seed,
        )  # fmt: skip
        play(env, first_stage, seed=8)
        rows, jobs = env.batch.state[:2]
        return jobs[0]["template"].tolist(), jobs[0]["arrival_ms"].tolist(), rows["busy_ms"].item()

    (*arrivals, busy_ms), (*same, other_ms) = jobs_and_work(0), jobs_and_work(1)
    assert arrivals == same
    assert busy_ms != other_ms
    assert jobs_and_work(1) == (*same, other_ms)


def test_the_kth_task_of_a_stage_lasts_as_long_whatever_the_policy():
    # One list for all waves and levels, so that a draw is a duration; 97 s are easy to tell apart.
    listed = (1000 * np.arange(1, 98)).tolist()
    jobs = [JobTemplate(f"job {n}", [5, 3, 6], [(0, 2)], [listed] * 3) for n in range(4)]
    env = make(Workload.of_jobs("told apart", jobs), 3, num_jobs=4, max_stages=24)

    def lasted(policy):
        """Return {(stage, k): duration} where it can be seen, and the sum of all."""
        seen = {}

        def watching(observation):
            for number, stage in enumerate(env.batch.state.stages[0]):
                begun = int(stage["num_tasks"] - stage["remaining"])
                if begun:
                    seen[number, begun] = float(stage["recent_ms"])
            return policy(observation)

        play(env, watching, seed=2)
        return seen, env.batch.state.rows["busy_ms"].item()

    seen, busy_ms = lasted(first_stage)
    for seed in range(5):
        other, other_ms = lasted(any_stage(seed))
        common = seen.keys() & other.keys()
        assert len(common) > 10
        assert {key: seen[key] for key in common} == {key: other[key] for key in common}
        assert other_ms == busy_ms
    assert len(set(seen.values())) > 10


def test_maskable_ppo_of_sb3_contrib_chooses_only_what_is_legal():
    maskable = pytest.importorskip("sb3_contrib").MaskablePPO
    env = CJSEnv(num_executors=5, num_jobs=5, max_stages=32, max_jobs=8, strict_actions=True)
    # An illegal stage raises under `strict_actions`; the masks alone keep it from being chosen.
    model = maskable("MultiInputPolicy", env, n_steps=64, batch_size=32, seed=0, device="cpu")
    model.learn(128)
    assert model.num_timesteps == 128
