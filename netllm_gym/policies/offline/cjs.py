"""CJS for the offline methods, which need observations of a fixed size and a fixed set of actions.

The stages that may be chosen are ranked: those of the job with the least work left first, within a
job those that can begin at once, then as they are numbered. The first `NUM_SHOWN` are shown, each
with the features of `policies/cjs_graph.py` of it and its job; the features of the cluster follow
them. The other stages are neither observed nor can they be chosen.

Action 0 is "no stage". Action 1 + r * NUM_LEVELS + (l - 1) gives the stage of rank r the l-th level
of executors, l / NUM_LEVELS of the most that it can be given now (what can be committed and what it
can use, whichever is less), rounded up. Where two levels are the same number, only the higher one
may be chosen, so that each number is one action.

A teacher's number of executors becomes the nearest level, of two as near the higher; a stage that
is not shown has no action, and its decision is left out of training.
"""

from typing import Any, NamedTuple

import numpy as np

from netllm_gym.arrays import BoolArray, Float32Array, IntArray
from netllm_gym.configs import check
from netllm_gym.envs.cjs.observation import ClusterView
from netllm_gym.errors import InputError
from netllm_gym.policies.baselines.cjs import Offers, check_is_cluster, numbered, work_left_ms
from netllm_gym.policies.cjs_graph import NUM_JOB, NUM_ROW, NUM_STAGE, choices_of, graph_of
from netllm_gym.policies.offline.config import OfflineConfig
from netllm_gym.policies.offline.parts import Offered, ProblemParts, Sizes, Taught

NUM_SHOWN = 16
NUM_LEVELS = 8
NUM_ACTIONS = 1 + NUM_SHOWN * NUM_LEVELS
NUM_FEATURES = NUM_SHOWN * (1 + NUM_STAGE + NUM_JOB) + NUM_ROW
NO_ACTION = -1


class Menu(NamedTuple):
    """What each of N rows may choose from, by rank; K is `NUM_SHOWN`."""

    stage: IntArray  # (N, K) among all stages of the view, 0 where there is none
    place: IntArray  # (N, K) among the row's stages, -1 where there is none
    limit: IntArray  # (N, K) most executors that it can be given, 0 where there is none
    may_wait: BoolArray  # (N,) whether "no stage" may be chosen

    @property
    def levels(self) -> IntArray:
        """(N, K, L) executors of each level."""
        level = np.arange(1, NUM_LEVELS + 1)
        return np.asarray(-(-self.limit[:, :, None] * level // NUM_LEVELS), np.int64)

    @property
    def allowed(self) -> BoolArray:
        """(N, NUM_ACTIONS) which actions may be chosen; at least one in each row."""
        levels = self.levels
        higher = np.append(levels[:, :, 1:], np.zeros_like(levels[:, :, :1]), axis=2)
        named = (levels > 0) & (levels != higher)
        return np.concatenate([self.may_wait[:, None], named.reshape(len(levels), -1)], axis=1)


def menu_of(view: ClusterView) -> Menu:
    """Rank the stages that may be chosen."""
    choices, offers = choices_of(view), Offers(view)
    rows, columns = np.nonzero(choices.exists[:, 1:])
    stages = choices.stage[:, 1:][rows, columns]
    left_ms = work_left_ms(offers)[offers.job[stages]]
    # Of jobs with equally much left the first comes whole before the next.
    order = np.lexsort((stages, ~offers.ready[stages], offers.job[stages], left_ms, rows))
    rank = numbered(rows, len(view))[0]
    shown = rank < NUM_SHOWN
    at, column = (rows[shown], rank[shown]), columns[order[shown]]
    shape = (len(view), NUM_SHOWN)
    stage, limit = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    place = np.full(shape, -1, np.int64)
    stage[at] = stages[order[shown]]
    place[at] = choices.place[:, 1:][rows[shown], column]
    limit[at] = choices.limit[:, 1:][rows[shown], column]
    return Menu(stage, place, limit, choices.allowed[:, 0])


def features_of(view: ClusterView, menu: Menu) -> Float32Array:
    """Return (N, NUM_FEATURES): of each rank 1 and its features, or zeros; then the cluster's."""
    graph = graph_of(view)
    exists = menu.place >= 0
    shown = np.zeros((*exists.shape, 1 + NUM_STAGE + NUM_JOB), np.float32)
    stages = menu.stage[exists]
    shown[exists, 0] = 1.0
    shown[exists, 1 : 1 + NUM_STAGE] = graph.stage[stages]
    shown[exists, 1 + NUM_STAGE :] = graph.job[graph.job_of[stages]]
    return np.concatenate([shown.reshape(len(view), -1), graph.row], axis=1)


class Answers(NamedTuple):
    """A teacher's N decisions as actions of the fixed set."""

    action: IntArray  # (N,) NO_ACTION where its stage is not shown
    is_exact: BoolArray  # (N,) whether it would do just what the teacher did


def number_actions(menu: Menu, decisions: IntArray) -> Answers:
    """Return the actions nearest to (N, 2) decisions of the environment."""
    place, executors = decisions[:, 0], decisions[:, 1] + 1
    row, rank = np.nonzero((menu.place == place[:, None]) & (menu.place >= 0))
    wanted = np.minimum(executors[row], menu.limit[row, rank])  # more would be cut to the limit
    levels = menu.levels[row, rank]  # (M, L)
    distance = np.abs(levels - wanted[:, None])
    level = NUM_LEVELS - 1 - distance[:, ::-1].argmin(axis=1)  # the last of the nearest
    action = np.where(place < 0, 0, NO_ACTION)
    action[row] = 1 + rank * NUM_LEVELS + level
    is_exact = place < 0
    is_exact[row] = distance.min(axis=1) == 0
    return Answers(action, is_exact)


def decisions_of(menu: Menu, actions: IntArray) -> IntArray:
    """Return the (N, 2) decisions that (N,) actions mean."""
    rank, level = np.divmod(np.maximum(actions - 1, 0), NUM_LEVELS)
    row = np.arange(len(actions))
    waits = actions == 0
    executors = np.maximum(menu.levels[row, rank, level], 1)
    return np.stack(
        [np.where(waits, -1, menu.place[row, rank]), np.where(waits, 0, executors - 1)], axis=1
    )


class CJSParts(ProblemParts):
    """The offline parts of CJS, named by its row."""

    def taught(self, config: OfflineConfig, observations: Any, decisions: IntArray) -> Taught:
        """Return the nearest actions of the fixed set; see the base."""
        if not isinstance(observations, ClusterView):
            raise InputError(f"observations must be of cjs, got {type(observations).__name__}")
        menu = menu_of(observations)
        actions, is_exact = number_actions(menu, decisions)
        is_allowed = menu.allowed[np.arange(len(observations)), np.maximum(actions, 0)]
        return Taught(features_of(observations, menu), actions, is_exact, is_allowed)

    def offered(self, config: OfflineConfig, observations: Any) -> Offered:
        """Offer the stages that are shown; see the base."""
        menu = menu_of(observations)
        features = features_of(observations, menu)
        return Offered(features, menu.allowed, lambda actions: decisions_of(menu, actions))

    def sizes(self, env: Any, longest: int) -> Sizes:
        """Return the fixed sizes; see the base."""
        # Nothing before a decision matters, so a policy is not told how many there were.
        return Sizes(NUM_FEATURES, NUM_ACTIONS, max_steps=1)

    def check_env(self, config: OfflineConfig, env: Any) -> None:
        """Refuse environments of other problems, and policies of other sizes; see the base."""
        check_is_cluster(env)
        for name, here in (("num_features", NUM_FEATURES), ("num_actions", NUM_ACTIONS)):
            found = getattr(config, name)
            check(found == here, name, f"be {here} for cjs", found)
