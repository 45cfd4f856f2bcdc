"""The worlds in which ABR networks train: traces with altered copies of them and generated ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from netllm_gym.envs.abr.player import DownloadNoise
from netllm_gym.envs.abr.synthetic import FCCLike, MarkovLevels, TraceFamily, UniformHold
from netllm_gym.envs.abr.traces import Trace
from netllm_gym.envs.abr.vector_env import ABRVectorEnv
from netllm_gym.envs.abr.video import Video
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.policies.configs import to_json
from netllm_gym.policies.neural.config import AugmentConfig, PPOConfig
from netllm_gym.policies.neural.networks import NetworkPolicyFactory
from netllm_gym.policies.neural.ppo import episode_seeds

NOISE = DownloadNoise(0.9, 1.1)


class TraceWorlds:
    """Episodes over traces, altered copies of them and generated ones: a `Worlds`.

    Args:
        traces: Trained on.
        video: Played.
        augment: What is put around the traces.
        ppo: Says how many episodes an update plays, and the seed.
    """

    def __init__(
        self, traces: Sequence[Trace], video: Video, augment: AugmentConfig, ppo: PPOConfig
    ) -> None:
        self.settings: Mapping[str, Any] = to_json(augment)
        self._ppo = ppo
        noisy = round(augment.noisy_fraction * ppo.episodes) if augment.copies else 0
        self._env = ABRVectorEnv(
            num_envs=ppo.episodes,
            traces=augmented(traces, augment, ppo.seed),
            video=video,
            noise=[NOISE] * noisy + [DownloadNoise()] * (ppo.episodes - noisy),
            autoreset_mode="Disabled",
        )

    def episodes(
        self, update: int, policy: NetworkPolicyFactory
    ) -> tuple[ABRVectorEnv, list[PlannedEpisode]]:
        """Return the environment and the plan of an update; seeds draw trace and start."""
        seeds = episode_seeds(self._ppo.seed, update, self._ppo.episodes)
        return self._env, self._env.training_plan(seeds.tolist())

    def memory(self) -> dict[str, Any]:
        """Return nothing: all updates play over the same traces."""
        return {}

    def remember(self, memory: Mapping[str, Any], path: Path) -> None:
        """Put nothing back."""


def augmented(traces: Sequence[Trace], augment: AugmentConfig, seed: int) -> list[Trace]:
    """Return traces, their altered copies, which keep the recording, and generated ones."""
    found = list(traces)
    if not augment.copies:
        return found
    for number, trace in enumerate(traces):
        rng = np.random.default_rng([seed, 0, number])
        factors = [
            np.exp(rng.uniform(np.log(low), np.log(high), augment.copies))
            for low, high in (augment.capacity, augment.time)
        ]
        found += [
            Trace(
                f"{trace.name}~{copy}",
                trace.time_s * time,
                trace.capacity_mbps * capacity,
                trace.recording,
            )
            for copy, (capacity, time) in enumerate(zip(*factors, strict=True), start=1)
        ]
    for number in range(augment.generated):
        rng = np.random.default_rng([seed, 1, number])
        raw = drawn_family(rng, number).generate(rng)
        found.append(Trace(f"generated-{number:03d}", *raw))
    return found


def drawn_family(rng: np.random.Generator, number: int) -> TraceFamily:
    """Return one of the generated families in turn, its parameters drawn.

    The ranges hold links from a third of the lowest bitrate of the usual ladder to twice its top.
    """
    top_mbps = float(np.exp(rng.uniform(np.log(1.0), np.log(9.0))))
    bottom_mbps = top_mbps * float(rng.uniform(0.02, 0.5))
    if number % 3 == 0:
        median_mbps = float(np.exp(rng.uniform(np.log(0.5), np.log(3.0))))
        return FCCLike(median_mbps, spread=0.4, min_mbps=0.1, max_mbps=6.0)
    if number % 3 == 1:
        return UniformHold(max(bottom_mbps, 0.1), top_mbps, max_hold=int(rng.integers(1, 25)))
    return MarkovLevels(
        min_mbps=max(bottom_mbps, 0.1),
        max_mbps=top_mbps,
        num_levels=int(rng.integers(4, 13)),
        dwell_s=float(rng.uniform(3.0, 40.0)),
        noise_fraction=float(rng.uniform(0.0, 0.3)),
    )
