"""`CongestionControl-v0`: one sender, or N of them side by side, as Gymnasium environments."""

import hashlib
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.envs.rows import RowVectorEnv, scalar_info
from netllm_gym.errors import InputError
from numpy.typing import NDArray

from congestion_control.batch import CongestionBatch
from congestion_control.links import LinkSet

EVALUATION_LINKS = 100  # of an evaluation, unless more are asked for


class CongestionEnv(gym.Env[NDArray[np.float32], np.int64]):
    """Choose how fast to send over a link whose capacity changes without notice.

    ## Description
    A sender sends over one bottleneck link with a finite drop-tail queue. Every 100 ms it
    multiplies its sending rate by a factor. If it sends too slowly, the link is idle. If it sends
    too fast, the queue fills, which delays every packet, and then packets are lost. The dynamics
    are a fluid model; `simulator.py` has its equations and `links.py` generates the links.

    ## Action Space
    `Discrete(7)`: multiply the sending rate by 0.5, 0.8, 0.95, 1, 1.05, 1.25 or 2. The rate stays
    between 0.1 and 200 Mbit/s.

    ## Observation Space
    `Box(0, high, (40,), float32)`: five numbers of each of the last eight intervals, those of the
    newest last, zeros before the episode began.

    | number | what | unit |
    | --- | --- | --- |
    | 0 | throughput: what was delivered in the interval | 10 Mbit/s |
    | 1 | sending rate | 10 Mbit/s |
    | 2 | mean round-trip time | 100 ms |
    | 3 | mean round-trip time | base round-trip time |
    | 4 | loss | share of what was sent |

    ## Rewards
    Utility of the interval: throughput / capacity - 0.2 x (round-trip time / base round-trip
    time - 1) - 2 x loss share. It has no unit; 1 is a full link, an empty queue and no loss. The
    mean over an episode is the metric of tables.

    ## Starting State
    A link, drawn from the set by the episode's seed or named by `reset(options={"link_seed": s})`,
    with an empty queue. The sender sends at 1 Mbit/s and knows the base round-trip time.

    ## Episode End
    Truncates after 200 intervals, 20 s; the connection would go on. Never terminates.

    ## Information
    Floats, of each step: `utility` (the reward), `throughput_mbps`, `rate_mbps`, `capacity_mbps`,
    `delay_ms` (mean round-trip time) and `loss_share`. `reset` gives none.

    ## Arguments
    - `links`: set that links are drawn from: `"synthetic"`, `"synthetic-valid"` or
      `"synthetic-test"`, which share no link; or a `LinkSet`.

    ## Version History
    - v0: first release.

    Raises:
        InputError: If an argument breaks a rule; the message names it and the value.
    """

    metadata = {"render_modes": []}  # noqa: RUF012
    num_envs = 1

    def __init__(self, links: str | LinkSet = "synthetic", render_mode: str | None = None) -> None:
        if render_mode is not None:
            raise InputError(f"render_mode must be None, got {render_mode!r}")
        self.render_mode = None
        self.batch = CongestionBatch(1, links)
        self.observation_space = self.batch.observation_space
        self.action_space = self.batch.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode: that of the seed, or the one after the last."""
        super().reset(seed=seed)
        if options and "reset_mask" in options:
            raise InputError("options must be link_seed, got reset_mask")
        outcome = self.batch.begin(np.ones(1, np.bool_), [seed], options, self.np_random)
        return outcome.observation[0], scalar_info(outcome)

    def step(
        self, action: np.int64 | int
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Send for one interval."""
        if self.batch.done[0]:
            raise InputError("step must follow reset, got a step after the episode's end")
        outcome = self.batch.step(np.atleast_1d(action))
        ended = bool(outcome.truncated[0])
        return outcome.observation[0], float(outcome.reward[0]), False, ended, scalar_info(outcome)


class CongestionVectorEnv(RowVectorEnv):
    """N independent `CongestionEnv` in one call; see there for spaces, reward and arguments.

    Row i of `reset(seed=s)` plays the episodes of `CongestionEnv.reset(seed=s + i)`, bit for bit,
    whatever the other rows do. `reset` takes `options={"link_seed": (N,), "reset_mask": (N,)
    bool}`; with a mask only those rows begin anew. All three autoreset modes of Gymnasium work.
    """

    batch: CongestionBatch

    def __init__(
        self,
        num_envs: int = 1,
        links: str | LinkSet = "synthetic",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        self._set_modes(num_envs, autoreset_mode, render_mode)
        self.batch = CongestionBatch(num_envs, links)
        self.single_observation_space = self.batch.observation_space
        self.single_action_space = self.batch.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    @property
    def links(self) -> LinkSet:
        """The set that links are drawn from."""
        return self.batch.links

    @property
    def loaded(self) -> dict[str, Any]:
        """Arguments that make another environment over the same links."""
        return {"links": self.links}

    def case(self, row: int) -> dict[str, str | int]:
        """Say what a row plays now; `content` names the set, so that training on it is noticed."""
        name = self.links.name
        return {"link": f"{name} {self.batch.link_seed[row]}", "content": name}

    def evaluation_plan(self, at_least: int = 1) -> list[PlannedEpisode]:
        """Return the episodes of an evaluation, one per link: the first ones of the set."""
        count = max(at_least, EVALUATION_LINKS)
        seeds = self.links.seeds
        if count > len(seeds):
            raise InputError(f"episodes must be at most {len(seeds)}, got {at_least}")
        return [
            PlannedEpisode(number, {"link_seed": seed}) for number, seed in enumerate(seeds[:count])
        ]

    def training_plan(self, seeds: Sequence[int]) -> list[PlannedEpisode]:
        """Return training episodes, whose links their seeds draw."""
        return [PlannedEpisode(seed) for seed in seeds]

    def provenance(self, plan: Sequence[PlannedEpisode]) -> dict[str, Any]:
        """Say where planned episodes come from, as JSON: from the whole set of links."""
        name = self.links.name
        digest = hashlib.sha256(f"{name} {self.links.seeds}".encode()).hexdigest()
        return {"links": name, "recordings": [name], "sha256": digest}
