"""Generated links in which ABR networks train: uniform domain randomisation, and GENET.

Every episode plays a trace of its own, by a player of its own. GENET adds a curriculum: Bayesian
optimisation finds the parameters at which a rule is farthest ahead of the policy, and the mixture
that episodes are drawn from takes them in.

Source: GENET (Xia et al., SIGCOMM 2022), `spec/abr.md` 4.3. Differs: the gap is the mean QoE of a
chunk, not its sum; the policy that is measured takes its likeliest rung; the best link is kept as
a point even where the policy is ahead of the rule everywhere, as there.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from netllm_gym.configs import to_json
from netllm_gym.data.abr.synthetic import UniformHold
from netllm_gym.data.abr.traces import Trace
from netllm_gym.data.abr.video import Video
from netllm_gym.envs.abr.player import PlayerConfig
from netllm_gym.envs.abr.vector_env import ABRVectorEnv
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.errors import InputError
from netllm_gym.evaluation.rollout import rollout
from netllm_gym.policies.baselines.abr import BBA
from netllm_gym.policies.baselines.abr_mpc import RobustMPC
from netllm_gym.policies.policy import TrainedPolicyFactory
from netllm_gym.training.abr_episodes import ForesightEnv
from netllm_gym.training.config import GenetConfig, LinkRanges, PPOConfig, UDRConfig
from netllm_gym.training.ppo import episode_seeds

HEURISTICS = {"robust_mpc": RobustMPC, "bba": BBA}
SEARCHED = ("min_mbps", "max_mbps", "max_hold", "rtt_s", "buffer_cap_s")
_LINKS, _SEARCH = 1, 2  # what a generator is for, so that no two share their numbers


class Link(NamedTuple):
    """What one episode plays, before it has a trace."""

    min_mbps: float
    max_mbps: float
    max_hold: float  # samples
    rtt_s: float
    buffer_cap_s: float


def drawn_link(ranges: LinkRanges, rng: np.random.Generator) -> Link:
    """Draw a link and a player."""
    low, high = ranges.max_mbps
    max_mbps = math.exp(rng.uniform(math.log(low), math.log(high)))
    return Link(
        min_mbps=rng.uniform(*ranges.min_mbps),
        max_mbps=max_mbps,
        max_hold=rng.uniform(*ranges.max_hold),
        rtt_s=rng.uniform(*ranges.rtt_s),
        buffer_cap_s=rng.uniform(*ranges.buffer_cap_s),
    )


def trace_of(link: Link, duration_s: float, rng: np.random.Generator) -> Trace:
    """Draw a trace of a link."""
    family = UniformHold(
        min(link.min_mbps, link.max_mbps),
        link.max_mbps,
        max_hold=max(1, round(link.max_hold)),
        duration_s=duration_s,
    )
    return Trace("link", *family.generate(rng))


def play_of(
    kind: type[ABRVectorEnv],
    traces: Sequence[Trace],
    players: Sequence[PlayerConfig],
    seeds: Sequence[int],
    video: Video,
    rng: np.random.Generator,
) -> tuple[ABRVectorEnv, list[PlannedEpisode]]:
    """Return an environment in which each row has its trace and its player, and its plan."""
    env = kind(
        num_envs=len(traces),
        traces=list(traces),
        video=video,
        player=list(players),
        autoreset_mode="Disabled",
    )
    plan = [
        PlannedEpisode(
            seed, {"trace": row, "start_pointer": int(rng.integers(1, len(trace.time_s)))}
        )
        for row, (seed, trace) in enumerate(zip(seeds, traces, strict=True))
    ]
    return env, plan


def player_of(link: Link) -> PlayerConfig:
    """Return the player of a link."""
    return PlayerConfig(rtt_s=link.rtt_s, buffer_cap_s=link.buffer_cap_s)


class UDREpisodes:
    """Episodes over links drawn anew, and over named traces if there are any: an `EpisodeSource`.

    Args:
        traces: Named ones; may be none.
        video: Played.
        udr: What is drawn.
        ppo: Says how many episodes an update plays, and the seed.
    """

    def __init__(
        self, traces: Sequence[Trace], video: Video, udr: UDRConfig, ppo: PPOConfig
    ) -> None:
        _check_players(udr.links, video)
        self.settings: Mapping[str, Any] = to_json(udr)
        self._traces, self._video, self._udr, self._ppo = traces, video, udr, ppo

    def episodes(
        self, update: int, policy: Callable[[], TrainedPolicyFactory]
    ) -> tuple[ABRVectorEnv, list[PlannedEpisode]]:
        """Return the environment and the plan of an update."""
        ppo, udr = self._ppo, self._udr
        rng = np.random.default_rng([ppo.seed, _LINKS, update])
        seeds = episode_seeds(ppo.seed, update, ppo.episodes).tolist()
        num_real = round(udr.real_fraction * ppo.episodes) if self._traces else 0
        traces = [self._traces[index] for index in rng.integers(len(self._traces), size=num_real)]
        players = [PlayerConfig()] * num_real
        for _ in range(ppo.episodes - num_real):
            link = self._link(rng)
            traces.append(trace_of(link, udr.links.duration_s, rng))
            players.append(player_of(link))
        return play_of(ForesightEnv, traces, players, seeds, self._video, rng)

    def _link(self, rng: np.random.Generator) -> Link:
        return drawn_link(self._udr.links, rng)

    def state(self) -> dict[str, Any]:
        """Return nothing: every update draws from the same ranges."""
        return {}

    def restore(self, state: Mapping[str, Any], path: Path) -> None:
        """Put nothing back."""


class GenetEpisodes(UDREpisodes):
    """Uniform domain randomisation whose mixture takes in what a search finds.

    Attributes:
        finds: Links that were found so far, oldest first.
    """

    def __init__(
        self, traces: Sequence[Trace], video: Video, genet: GenetConfig, ppo: PPOConfig
    ) -> None:
        super().__init__(traces, video, genet.udr, ppo)
        self.settings = to_json(genet)
        self._genet = genet
        self.finds: list[Link] = []

    def episodes(
        self, update: int, policy: Callable[[], TrainedPolicyFactory]
    ) -> tuple[ABRVectorEnv, list[PlannedEpisode]]:
        """Return the environment and the plan of an update, after a search where one is due."""
        due = min(self._genet.rounds, update // self._genet.round_updates)
        while len(self.finds) < due:
            self.finds.append(self._search(len(self.finds), policy()))
        return super().episodes(update, policy)

    def _link(self, rng: np.random.Generator) -> Link:
        """Draw from the mixture: each find took its weight from all that was there before."""
        for find in reversed(self.finds):
            if rng.random() < self._genet.weight:
                return find
        return super()._link(rng)

    def _search(self, number: int, policy: TrainedPolicyFactory) -> Link:
        """Return the link at which the rule is farthest ahead of the policy."""
        from bayes_opt import BayesianOptimization
        from bayes_opt.acquisition import UpperConfidenceBound

        genet, links = self._genet, self._udr.links
        bounds = {name: getattr(links, name) for name in SEARCHED}
        bounds["max_mbps"] = (math.log(links.max_mbps[0]), math.log(links.max_mbps[1]))
        bounds = {name: (low, high) for name, (low, high) in bounds.items() if low < high}
        fixed = {name: getattr(links, name)[0] for name in SEARCHED if name not in bounds}

        def link_at(point: Mapping[str, float]) -> Link:
            values = {**fixed, **{name: float(value) for name, value in point.items()}}
            if "max_mbps" in bounds:
                values["max_mbps"] = math.exp(values["max_mbps"])
            return Link(**values)

        if not bounds:
            return link_at({})
        optimizer = BayesianOptimization(
            lambda **point: self._gap(link_at(point), number, policy),
            bounds,
            acquisition_function=UpperConfidenceBound(kappa=genet.kappa),
            random_state=self._ppo.seed + number,
            verbose=0,
            allow_duplicate_points=True,
        )
        optimizer.maximize(init_points=genet.first_points, n_iter=genet.guided_points)
        best = optimizer.max
        assert best is not None  # a point was drawn at least
        return link_at(best["params"])

    def _gap(self, link: Link, number: int, policy: TrainedPolicyFactory) -> float:
        """Return how much more QoE a chunk the rule earns on traces of a link."""
        rng = np.random.default_rng([self._ppo.seed, _SEARCH, number])
        traces = [
            trace_of(link, self._udr.links.duration_s, rng) for _ in range(self._genet.traces)
        ]
        players, seeds = [player_of(link)] * len(traces), range(len(traces))
        env, plan = play_of(ABRVectorEnv, traces, players, seeds, self._video, rng)
        heuristic = HEURISTICS[self._genet.heuristic]
        earned = [
            np.mean([each.rewards.mean() for each in rollout(factory(env), env, plan).episodes])
            for factory in (heuristic, policy)
        ]
        return float(earned[0] - earned[1])

    def state(self) -> dict[str, Any]:
        """Return the finds."""
        return {"finds": [list(find) for find in self.finds]}

    def restore(self, state: Mapping[str, Any], path: Path) -> None:
        """Put the finds back.

        Raises:
            InputError: If they are not what a search finds.
        """
        found = state.get("finds")
        lists: list[Any] = found if isinstance(found, list) else [None]
        for find in lists:
            numbers = isinstance(find, list) and len(find) == len(SEARCHED)
            if not numbers or not all(isinstance(each, int | float) for each in find):
                raise InputError(f"{path} must have finds of {len(SEARCHED)} numbers, got {find!r}")
        self.finds = [Link(*find) for find in lists]


def _check_players(links: LinkRanges, video: Video) -> None:
    if links.buffer_cap_s[0] < video.chunk_s:
        raise InputError(
            f"buffer_cap_s must hold one chunk of {video.chunk_s} s, got {links.buffer_cap_s}"
        )
