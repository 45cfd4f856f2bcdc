"""N senders that act together: the body of both environments.

Both are faces of one batch, so they play the same episodes bit for bit.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from netllm_gym.envs.rows import Outcome, keys_of, next_keys
from netllm_gym.errors import InputError
from netllm_gym.randomness import uniform
from numpy.typing import ArrayLike, NDArray

from congestion_control.links import INTERVAL_S, NUM_INTERVALS, LinkSet, find_links, make_link
from congestion_control.observation import COLUMNS, HIGHEST, HISTORY, UNITS
from congestion_control.simulator import FACTORS, START_MBPS, next_rates, send, utility


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
