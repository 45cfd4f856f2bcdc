"""The value of each action at every step of an episode, found by trying all of them.

At each step of an episode that was played, every action is taken once and a policy plays on to the
end of the same episode, with the same link and the same noise. The sum of the rewards is the
action's value. This value knows the future of the one episode. A policy that learns from many
episodes observes no future and so learns the mean, which is one step of improvement over the policy
that plays on.

Source: Ross and Bagnell, Reinforcement and Imitation Learning via Interactive No-Regret Learning
(AggreVaTe, 2014).
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from netllm_gym.arrays import FloatArray
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.policies.policy import Policy
from netllm_gym.pools.episode import ACTION_VALUE, Episode


def action_values(
    make_env: Callable[[int], Any],
    factory: Callable[[Any], Policy],
    plan: Sequence[PlannedEpisode],
    episodes: Sequence[Episode],
) -> list[dict[str, FloatArray]]:
    """Return, for each episode, the value of each action at each step.

    Args:
        make_env: Makes the vector environment of the episodes with a number of rows, autoreset
            disabled. Its rows can be put into the states of other rows (`batch.stand_as`).
        factory: Makes the policy that plays on; it observes the whole episode up to each step.
        plan: Of the episodes.
        episodes: The episodes as they were played, all of one length.

    Returns:
        Columns `value_0`, `value_1`, ... of shape (T,): undiscounted sums of rewards to the end.
    """
    played, count = make_env(len(plan)), len(plan)
    options = {key: np.array([each.options[key] for each in plan]) for key in plan[0].options}
    _, told = played.reset(seed=[each.seed for each in plan], options=options or None)
    actions = np.stack([episode.actions for episode in episodes])  # (E, T)
    num_actions, num_steps = int(played.single_action_space.n), actions.shape[1]
    branches = make_env(count * num_actions)
    tried = np.tile(np.arange(num_actions), count)  # action of each branch
    branched = np.repeat(np.arange(count), num_actions)  # its episode
    seeds = np.array([each.seed for each in plan], np.int64)[branched]
    witness = factory(branches)
    # A copy of the policy shares the network that its factory holds, and the environment.
    shared = {id(each): each for each in (*getattr(factory, "__dict__", {}).values(), branches)}
    witness.reset(np.arange(len(branched)), seeds)
    earned = np.zeros(count)
    values = np.zeros((num_steps, count * num_actions))
    for step in range(num_steps):
        seen = branches.batch.stand_as(played.batch, branched)
        reported = {key: column[branched] for key, column in told.items()}
        witness.act(seen, earned[branched], reported)  # so that it remembers this step
        policy = copy.deepcopy(witness, dict(shared))
        chosen: Any = tried
        for ahead in range(num_steps - step):
            observations, rewards, _, _, infos = branches.step(chosen)
            values[step] += rewards
            if ahead + 1 < num_steps - step:
                chosen = policy.act(observations, rewards, infos)
        _, earned, _, _, told = played.step(actions[:, step])
    by_action = values.reshape(num_steps, count, num_actions)
    return [
        {
            f"{ACTION_VALUE}{action}": by_action[:, index, action].copy()
            for action in range(num_actions)
        }
        for index in range(count)
    ]
