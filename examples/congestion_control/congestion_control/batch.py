"""N senders that act together, each over a link of its own: what both environments share."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from netllm_gym.arrays import BoolArray, FloatArray
from netllm_gym.envs.batch import Outcome, RowBatch, check_within, whole_actions
from netllm_gym.errors import InputError
from netllm_gym.randomness import uniform
from numpy.typing import ArrayLike

from congestion_control.links import INTERVAL_S, LINK_SETS, NUM_INTERVALS, make_link
from congestion_control.observation import HIGHEST, HISTORY, NUM_COLUMNS, UNITS
from congestion_control.simulator import FACTORS, START_MBPS, next_rates, send, utility


class CongestionBatch(RowBatch):
    """N senders.

    Args:
        num_rows: N.
        links: Name of the set that links are drawn from.
    """

    option_names = ("link_seed",)

    def __init__(self, num_rows: int, links: str) -> None:
        super().__init__(num_rows)
        if links not in LINK_SETS:
            raise InputError(f"links must be one of {', '.join(LINK_SETS)}, got {links!r}")
        self.links, self.seeds = links, LINK_SETS[links]
        self.observation_space = spaces.Box(0.0, np.tile(HIGHEST, HISTORY), dtype=np.float32)
        self.action_space = spaces.Discrete(len(FACTORS))
        self.link_seed = np.zeros(num_rows, np.int64)
        self._step = np.full(num_rows, NUM_INTERVALS)
        self._capacity_mbps = np.ones((num_rows, NUM_INTERVALS))
        self._rtt_s, self._buffer_mbit = np.ones(num_rows), np.ones(num_rows)
        self._rate_mbps, self._queue_mbit = np.ones(num_rows), np.zeros(num_rows)
        self._history = np.zeros((num_rows, HISTORY, NUM_COLUMNS), np.float32)

    @property
    def done(self) -> BoolArray:
        """(N,) whether each row's episode is over, or has not begun."""
        return self._step >= NUM_INTERVALS

    def begin(
        self,
        begins: BoolArray,
        seeds: Sequence[int | None],
        options: Mapping[str, Any] | None,
        generator: np.random.Generator,
    ) -> Outcome:
        """Begin an episode in some rows; see `RowBatch`."""
        options = options or {}
        self.check_options(options)
        self.renew_keys(begins, seeds, generator)
        first, last = self.seeds[0], self.seeds[-1]
        chosen = first + (uniform(self.keys, 0) * len(self.seeds)).astype(np.int64)
        if "link_seed" in options:
            chosen = self.whole_per_row("link_seed", options["link_seed"], first, last)
        self.link_seed[begins] = chosen[begins]
        for row in np.flatnonzero(begins).tolist():
            link = make_link(int(self.link_seed[row]))
            self._capacity_mbps[row], self._rtt_s[row], self._buffer_mbit[row] = link
        self._rate_mbps[begins], self._queue_mbit[begins] = START_MBPS, 0.0
        self._step[begins], self._history[begins] = 0, 0.0
        nothing = np.zeros(self.num_rows)
        self._append(begins, nothing, self._rtt_s, nothing)
        return self._outcome(nothing, {})

    def step(self, actions: ArrayLike) -> Outcome:
        """Send for one interval in every row that is not done; see `RowBatch`."""
        chosen = whole_actions(actions, (self.num_rows,))
        check_within("actions must be in", chosen, 0, len(FACTORS) - 1)
        moves = ~self.done
        place = np.minimum(self._step, NUM_INTERVALS - 1)
        capacity_mbps = self._capacity_mbps[np.arange(self.num_rows), place]
        rate_mbps = next_rates(self._rate_mbps, chosen)
        sent = send(rate_mbps, self._queue_mbit, capacity_mbps, self._buffer_mbit)
        throughput_mbps = sent.delivered_mbit / INTERVAL_S
        delay_s = self._rtt_s + sent.mean_queue_mbit / capacity_mbps
        loss_share = sent.lost_mbit / (rate_mbps * INTERVAL_S)
        self._rate_mbps = np.where(moves, rate_mbps, self._rate_mbps)
        self._queue_mbit = np.where(moves, sent.queue_mbit, self._queue_mbit)
        self._step += moves
        self._append(moves, throughput_mbps, delay_s, loss_share)
        info = {
            "utility": utility(throughput_mbps / capacity_mbps, delay_s / self._rtt_s, loss_share),
            "throughput_mbps": throughput_mbps,
            "rate_mbps": rate_mbps,
            "capacity_mbps": capacity_mbps,
            "delay_ms": 1000.0 * delay_s,
            "loss_share": loss_share,
        }
        info = {name: np.where(moves, column, 0.0) for name, column in info.items()}
        return self._outcome(info["utility"].copy(), info)

    def _outcome(self, reward: FloatArray, info: Mapping[str, Any]) -> Outcome:
        return Outcome(
            observation=self._history.reshape(self.num_rows, -1).copy(),
            reward=reward,
            terminated=np.zeros(self.num_rows, np.bool_),
            truncated=self.done,
            info=info,
        )

    def _append(
        self,
        rows: BoolArray,
        throughput_mbps: FloatArray,
        delay_s: FloatArray,
        loss_share: FloatArray,
    ) -> None:
        """Append one interval, (N,) each, to the history of some rows."""
        ratio = delay_s / self._rtt_s
        newest = np.stack([throughput_mbps, self._rate_mbps, delay_s, ratio, loss_share], axis=1)
        self._history[rows, :-1] = self._history[rows, 1:]
        self._history[rows, -1] = (newest / UNITS)[rows]
