"""`CongestionControl-v0`: one sender, or N of them side by side, as Gymnasium environments.

Both are faces of one `CongestionBatch`, so they play the same episodes bit for bit.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from netllm_gym.envs.plan import PlannedEpisode
from netllm_gym.envs.rows import Outcome, RowVectorEnv, keys_of, next_keys, scalar_info
from netllm_gym.errors import InputError
from netllm_gym.randomness import uniform
from numpy.typing import ArrayLike, NDArray

from congestion_control.links import (
    INTERVAL_S,
    NUM_INTERVALS,
    LinkSet,
    find_links,
    make_link,
)
from congestion_control.observation import COLUMNS, HIGHEST, HISTORY, UNITS
from congestion_control.simulator import FACTORS, START_MBPS, next_rates, send, utility

EVALUATION_LINKS = 100  # of an evaluation, unless more are asked for


class CongestionBatch:
    """N senders, each over a link of its own.

    Args:
        num_rows: N.
        links: Name of the set that links are drawn from, or the set.
    """

    def __init__(self, num_rows: int, links: str | LinkSet) -> None:
        if num_rows < 1:
            raise InputError(f"num_envs must be at least 1, got {num_rows}")
        self.num_rows, self.links = num_rows, find_links(links)
        self.observation_space = spaces.Box(0.0, np.tile(HIGHEST, HISTORY), dtype=np.float32)
        self.action_space = spaces.Discrete(len(FACTORS))
        self.done = np.ones(num_rows, np.bool_)
        self.link_seed = np.zeros(num_rows, np.int64)
        self._keys = np.zeros(num_rows, np.uint64)  # of the episodes; 0 before the first
        self._step = np.zeros(num_rows, np.int64)
        self._capacity_mbps = np.ones((num_rows, NUM_INTERVALS))
        self._rtt_s, self._buffer_mbit = np.ones(num_rows), np.ones(num_rows)
        self._rate_mbps, self._queue_mbit = np.ones(num_rows), np.zeros(num_rows)
        self._history = np.zeros((num_rows, HISTORY, len(COLUMNS)), np.float32)

    def begin(
        self,
        begins: NDArray[np.bool_],  # (N,)
        seeds: Sequence[int | None],  # (N,) None: the episode that follows the row's last one
        options: Mapping[str, Any] | None,
        generator: np.random.Generator,  # for rows that never had a seed
    ) -> Outcome:
        """Begin an episode in some rows; the others stand still."""
        named = self._named_links(options or {})
        for row in np.flatnonzero(begins).tolist():
            self._keys[row] = self._next_key(row, seeds[row], generator)
            draw = uniform(self._keys[row : row + 1], 0)[0]
            self.link_seed[row] = self.links.link_seed(draw) if named is None else named[row]
            link = make_link(int(self.link_seed[row]))
            self._capacity_mbps[row], self._rtt_s[row], self._buffer_mbit[row] = link
        self._rate_mbps[begins], self._queue_mbit[begins] = START_MBPS, 0.0
        self._step[begins], self.done[begins], self._history[begins] = 0, False, 0.0
        nothing = np.zeros(self.num_rows)
        self._see(begins, nothing, self._rtt_s, nothing)
        return self._outcome(nothing, {})

    def step(self, actions: ArrayLike) -> Outcome:
        """Send for one interval in every row that is not done; the others stand still."""
        moves, chosen = ~self.done, self._checked(actions)
        place = np.minimum(self._step, NUM_INTERVALS - 1)
        capacity_mbps = self._capacity_mbps[np.arange(self.num_rows), place]
        rate_mbps = next_rates(self._rate_mbps, chosen)
        sent = send(rate_mbps, self._queue_mbit, capacity_mbps, self._buffer_mbit)
        throughput_mbps = sent.delivered_mbit / INTERVAL_S
        delay_s = self._rtt_s + sent.mean_queue_mbit / capacity_mbps
        loss_share = sent.lost_mbit / (rate_mbps * INTERVAL_S)
        gained = utility(throughput_mbps / capacity_mbps, delay_s / self._rtt_s, loss_share)
        self._rate_mbps = np.where(moves, rate_mbps, self._rate_mbps)
        self._queue_mbit = np.where(moves, sent.queue_mbit, self._queue_mbit)
        self._step += moves
        self.done = self._step >= NUM_INTERVALS
        self._see(moves, throughput_mbps, delay_s, loss_share)
        info = {
            "utility": gained,
            "throughput_mbps": throughput_mbps,
            "rate_mbps": rate_mbps,
            "capacity_mbps": capacity_mbps,
            "delay_ms": 1000.0 * delay_s,
            "loss_share": loss_share,
        }
        info = {name: np.where(moves, column, 0.0) for name, column in info.items()}
        return self._outcome(info["utility"], info)

    def _outcome(self, reward: NDArray[np.float64], info: Mapping[str, Any]) -> Outcome:
        return Outcome(
            observation=self._history.reshape(self.num_rows, -1).copy(),
            reward=reward.copy(),
            terminated=np.zeros(self.num_rows, np.bool_),
            truncated=self.done.copy(),
            info=info,
        )

    def _see(
        self,
        rows: NDArray[np.bool_],
        throughput_mbps: NDArray[np.float64],
        delay_s: NDArray[np.float64],
        loss_share: NDArray[np.float64],
    ) -> None:
        """Append one interval, (N,) each, to the history of some rows."""
        ratio = delay_s / self._rtt_s
        newest = np.stack([throughput_mbps, self._rate_mbps, delay_s, ratio, loss_share], axis=1)
        self._history[rows, :-1] = self._history[rows, 1:]
        self._history[rows, -1] = (newest / UNITS)[rows]

    def _next_key(self, row: int, seed: int | None, generator: np.random.Generator) -> np.uint64:
        """Return the key of a row's next episode, from which its link is drawn."""
        if seed is None and self._keys[row]:
            return np.uint64(next_keys(self._keys[row : row + 1])[0])
        named = int(generator.integers(2**31)) if seed is None else seed
        return np.uint64(keys_of([named])[0])

    def _named_links(self, options: Mapping[str, Any]) -> NDArray[np.int64] | None:
        """Return (N,) the seeds of the links that reset's options name; None leaves them drawn."""
        unknown = sorted(set(options) - {"link_seed", "reset_mask"})
        if unknown:
            raise InputError(f"options must be link_seed or reset_mask, got {unknown[0]}")
        if "link_seed" not in options:
            return None
        named = np.asarray(options["link_seed"])
        if named.dtype.kind not in "iu" or named.shape not in ((), (self.num_rows,)):
            raise InputError(
                f"link_seed must be one whole number or {self.num_rows}, got {named!r}"
            )
        for seed in named.reshape(-1).tolist():
            if seed not in self.links.seeds:
                last = self.links.seeds.stop - 1
                raise InputError(
                    f"link_seed must be in {self.links.seeds.start}..{last}, got {seed}"
                )
        return np.broadcast_to(named.astype(np.int64), self.num_rows)

    def _checked(self, actions: ArrayLike) -> NDArray[np.int64]:
        found = np.asarray(actions)
        if found.shape != (self.num_rows,) or found.dtype.kind not in "iu":
            raise InputError(f"actions must be {self.num_rows} whole numbers, got {actions!r}")
        if found.min() < 0 or found.max() >= len(FACTORS):
            raise InputError(f"actions must be in 0..{len(FACTORS) - 1}, got {actions!r}")
        return found.astype(np.int64)


class CongestionEnv(gym.Env[NDArray[np.float32], np.int64]):
    """Choose how fast to send over a link whose capacity changes and which nobody tells.

    ## Description
    A sender sends over one bottleneck link with a finite drop-tail queue. Every 100 ms it
    multiplies its sending rate by a factor. What is too slow leaves the link idle; what is too
    fast first fills the queue, which delays every packet, and then is lost. The dynamics are a
    fluid model; `simulator.py` has its equations and `links.py` says how links are generated.

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
