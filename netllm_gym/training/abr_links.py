"""Generated links in which ABR networks train: uniform domain randomisation, and GENET.

Every episode has a trace and a player of its own. GENET adds a curriculum: Bayesian optimisation
searches for the link on which a rule is farthest ahead of the policy, and adds it to the mixture
from which links are drawn.

Source: GENET (Xia et al., SIGCOMM 2022). Differences: the gap is the mean QoE of a chunk, not its
sum; the policy that is measured takes its likeliest rung.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from netllm_gym.configs import check
from netllm_gym.data.abr.synthetic import UniformHold
from netllm_gym.data.abr.traces import Trace
from netllm_gym.data.abr.video import Video
from netllm_gym.envs.abr.player import PlayerConfig
from netllm_gym.envs.abr.qoe import LinearQoE
from netllm_gym.envs.abr.vector_env import ABRVectorEnv
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.errors import InputError
from netllm_gym.evaluation.rollout import rollout
from netllm_gym.policies.baselines.abr import BBA
from netllm_gym.policies.baselines.abr_mpc import RobustMPC
from netllm_gym.policies.policy import TrainedPolicyFactory
from netllm_gym.training.abr_foresight import ForesightEnv
from netllm_gym.training.online_config import RANGES, GenetConfig, UDRConfig
from netllm_gym.training.ppo import EpisodeSource, episode_seeds

HEURISTICS = {"robust_mpc": RobustMPC, "bba": BBA}
_LINKS, _SEARCH = 1, 2  # streams of random numbers


World = tuple[Trace, PlayerConfig]  # what one episode is played in


class Link(NamedTuple):
    """Parameters of a generated trace and of its player."""

    min_mbps: float
    max_mbps: float
    max_hold: float  # samples
    rtt_s: float
    buffer_cap_s: float

    def world(self, player: PlayerConfig, duration_s: float, rng: np.random.Generator) -> World:
        """Draw a trace of the link; return it with its player, which is otherwise like `player`."""
        family = UniformHold(
            min(self.min_mbps, self.max_mbps),
            self.max_mbps,
            max_hold=max(1, round(self.max_hold)),
            duration_s=duration_s,
        )
        player = replace(player, rtt_s=self.rtt_s, buffer_cap_s=self.buffer_cap_s)
        return Trace("link", *family.generate(rng)), player


def planned_env(
    kind: type[ABRVectorEnv],
    worlds: Sequence[World],
    seeds: Sequence[int],
    video: Video,
    qoe: LinearQoE,
    rng: np.random.Generator,
) -> tuple[ABRVectorEnv, list[PlannedEpisode]]:
    """Return an environment in which each row has its trace and its player, and its plan."""
    traces, players = [trace for trace, _ in worlds], [player for _, player in worlds]
    env = kind(len(worlds), traces, video, qoe, players, autoreset_mode="Disabled")
    plan = []
    for row, (seed, trace) in enumerate(zip(seeds, traces, strict=True)):
        start = int(rng.integers(1, len(trace.time_s)))
        plan.append(PlannedEpisode(seed, {"trace": row, "start_pointer": start}))
    return env, plan


class UDREpisodes(EpisodeSource):
    """Episodes over generated links, and over named traces if there are any.

    All have the QoE; the player is that of the named traces, and those of generated links differ
    from it in round trip and buffer.
    """

    def __init__(
        self,
        traces: Sequence[Trace],
        video: Video,
        config: UDRConfig,
        qoe: LinearQoE | None = None,
        player: PlayerConfig | None = None,
    ) -> None:
        self._links = config.links()
        cap_s, rule = self._links.buffer_cap_s, f"hold one chunk of {video.longest_s} s"
        check(cap_s[0] >= video.longest_s, "buffer_cap_s", rule, cap_s)
        self._traces, self._video, self._config = traces, video, config
        self._qoe, self._player = qoe or LinearQoE(), player or PlayerConfig()

    def episodes(
        self, update: int, policy: Callable[[], TrainedPolicyFactory]
    ) -> tuple[ABRVectorEnv, list[PlannedEpisode]]:
        """Return the environment and the plan of an update."""
        config = self._config
        rng = np.random.default_rng([config.seed, _LINKS, update])
        seeds = episode_seeds(config.seed, update, config.episodes).tolist()
        num_real = round(config.real_fraction * config.episodes) if self._traces else 0
        chosen = rng.integers(len(self._traces), size=num_real)
        worlds = [(self._traces[index], self._player) for index in chosen]
        duration_s, generated = self._links.duration_s, range(config.episodes - num_real)
        worlds += [self._link(rng).world(self._player, duration_s, rng) for _ in generated]
        return planned_env(ForesightEnv, worlds, seeds, self._video, self._qoe, rng)

    def _link(self, rng: np.random.Generator) -> Link:
        """Draw a link and a player."""
        ranges = self._links
        low, high = ranges.max_mbps
        max_mbps = math.exp(rng.uniform(math.log(low), math.log(high)))
        others = ("max_hold", "rtt_s", "buffer_cap_s")
        min_mbps, *rest = (rng.uniform(*getattr(ranges, name)) for name in ("min_mbps", *others))
        return Link(min_mbps, max_mbps, *rest)


class GenetEpisodes(UDREpisodes):
    """Uniform domain randomisation with a mixture that contains the links that searches found.

    `finds` are the links that were found so far, oldest first.
    """

    def __init__(
        self,
        traces: Sequence[Trace],
        video: Video,
        config: GenetConfig,
        qoe: LinearQoE | None = None,
        player: PlayerConfig | None = None,
    ) -> None:
        super().__init__(traces, video, config, qoe, player)
        self._genet = config
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
        """Draw from the mixture, in which each find takes its weight from all others alike."""
        for find in reversed(self.finds):
            if rng.random() < self._genet.find_weight:
                return find
        return super()._link(rng)

    def _search(self, number: int, policy: TrainedPolicyFactory) -> Link:
        """Return the link at which the rule is farthest ahead of the policy."""
        from bayes_opt import BayesianOptimization
        from bayes_opt.acquisition import UpperConfidenceBound

        genet, links = self._genet, self._links
        bounds = {name: getattr(links, name) for name in RANGES}
        bounds["max_mbps"] = (math.log(links.max_mbps[0]), math.log(links.max_mbps[1]))
        bounds = {name: (low, high) for name, (low, high) in bounds.items() if low < high}
        fixed = {name: getattr(links, name)[0] for name in RANGES if name not in bounds}

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
            random_state=genet.seed + number,
            verbose=0,
            allow_duplicate_points=True,
        )
        optimizer.maximize(init_points=genet.first_points, n_iter=genet.guided_points)
        best = optimizer.max
        assert best is not None  # a point was drawn at least
        return link_at(best["params"])

    def _gap(self, link: Link, number: int, policy: TrainedPolicyFactory) -> float:
        """Return the mean QoE of a chunk under the rule less that under the policy."""
        genet = self._genet
        rng = np.random.default_rng([genet.seed, _SEARCH, number])
        count = genet.gap_episodes
        duration_s = self._links.duration_s
        worlds = [link.world(self._player, duration_s, rng) for _ in range(count)]
        env, plan = planned_env(ABRVectorEnv, worlds, range(count), self._video, self._qoe, rng)
        of_rule, of_policy = (
            np.mean([each.rewards.mean() for each in rollout(factory(env), env, plan).episodes])
            for factory in (HEURISTICS[genet.heuristic], policy)
        )
        return float(of_rule - of_policy)

    def state(self) -> dict[str, Any]:
        """Return the finds."""
        return {"finds": [list(find) for find in self.finds]}

    def restore(self, state: Mapping[str, Any], path: Path) -> None:
        """Put the finds back; raise `InputError` if they are not lists of numbers."""
        found = state.get("finds")
        lists: list[Any] = found if isinstance(found, list) else [None]
        for find in lists:
            numbers = isinstance(find, list) and len(find) == len(RANGES)
            if not numbers or not all(isinstance(each, int | float) for each in find):
                raise InputError(f"{path} must have finds of {len(RANGES)} numbers, got {find!r}")
        self.finds = [Link(*find) for find in lists]
