"""`CongestionControl-v0`: one sender, or N of them side by side, as Gymnasium environments."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from netllm_gym.arrays import Float32Array
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.envs.rows import RowEnv, RowVectorEnv
from netllm_gym.errors import InputError

from congestion_control.batch import CongestionBatch

EVALUATION_LINKS = 100  # of an evaluation, unless more are asked for


class CongestionEnv(RowEnv[Float32Array, np.int64]):
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
      `"synthetic-test"`, which share no link.
    - `render_mode`: only None.

    ## Version History
    - v0: first release.

    Raises:
        InputError: If an argument breaks a rule; the message names it and the value.
    """

    batch: CongestionBatch

    def __init__(self, links: str = "synthetic", render_mode: str | None = None) -> None:
        super().__init__(CongestionBatch(1, links), render_mode)


class CongestionVectorEnv(RowVectorEnv):
    """N independent `CongestionEnv` in one call; see there for spaces, reward and arguments.

    `reset` takes `options={"link_seed": (N,), "reset_mask": (N,) bool}`; `RowVectorEnv` describes
    seeds, masks and the autoreset modes.
    """

    batch: CongestionBatch

    def __init__(
        self,
        num_envs: int = 1,
        links: str = "synthetic",
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(CongestionBatch(num_envs, links), autoreset_mode, render_mode)

    @property
    def loaded(self) -> dict[str, Any]:
        """Arguments that make another environment over the same links."""
        return {"links": self.batch.links}

    def case(self, row: int) -> dict[str, str | int]:
        """Describe the episode that a row plays: its link, and the set that the link is of."""
        name = self.batch.links
        return {"link": f"{name} {self.batch.link_seed[row]}", "content": name}

    def evaluation_plan(self, at_least: int = 1) -> list[PlannedEpisode]:
        """Return the episodes of an evaluation: the first links of the set, once each.

        Args:
            at_least: Episodes; there are no fewer than 100.
        """
        count, seeds = max(at_least, EVALUATION_LINKS), self.batch.seeds
        if count > len(seeds):
            raise InputError(f"episodes must be at most {len(seeds)}, got {at_least}")
        return [
            PlannedEpisode(number, {"link_seed": seed}) for number, seed in enumerate(seeds[:count])
        ]

    def provenance(self, plan: Sequence[PlannedEpisode]) -> dict[str, Any]:
        """Describe where planned episodes come from, as JSON: from the whole set of links."""
        name = self.batch.links
        digest = hashlib.sha256(f"{name} {self.batch.seeds}".encode()).hexdigest()
        return {"links": name, "recordings": [name], "sha256": digest}
