"""What each action would have led to: every decision of an episode, tried again in the simulator.

At each step of an episode that was played, each action is taken once and a policy plays on to the
end, in the same world: same link, same noise. The sum of the rewards is the action's value. It
knows the future of that world, but whoever learns from many worlds sees only what a player sees,
and so learns the mean: one step better than the policy that plays on, wherever that is not yet the
best.

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
    """Return, for each episode, what each action was worth at each step.

    Args:
        make_env: Makes the vector environment of the episodes with so many rows, autoreset
            disabled; it must let rows stand where others do (`batch.stand_as`).
        factory: Of the policy that plays on; it has seen the episode so far, as its player did.
        plan: Of the episodes.
        episodes: As they were played, all of one length.

    Returns:
        Columns `value_0`, `value_1`, ... of shape (T,), undiscounted sums of rewards to the end.
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
    # What a factory holds, its policies share: a network is not copied with what they remember.
    shared = {id(each): each for each in getattr(factory, "__dict__", {}).values()}
    witness.reset(np.arange(len(branched)), seeds)
    earned = np.zeros(count)
    values = np.zeros((num_steps, count * num_actions))
    for step in range(num_steps):
        seen = branches.batch.stand_as(played.batch, branched)
        reported = {key: column[branched] for key, column in told.items()}
        witness.act(seen, earned[branched], reported)  # for what it remembers of the step
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
