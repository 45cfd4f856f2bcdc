from itertools import pairwise

import numpy as np
import pytest

from congestion_control.links import INTERVAL_S, LINK_SETS, NUM_INTERVALS, list_links, make_link
from congestion_control.simulator import send, utility


def sent(rate_mbps, queue_mbit, capacity_mbps, buffer_mbit):
    given = {"rate_mbps": rate_mbps, "queue_mbit": queue_mbit}
    given |= {"capacity_mbps": capacity_mbps, "buffer_mbit": buffer_mbit}
    found = send(**{name: np.array([value]) for name, value in given.items()})
    return [float(each[0]) for each in found]


def test_one_interval_that_overflows_worked_out_by_hand():
    # 30 Mbit/s meet 20 Mbit/s and an empty queue of at most 0.5 Mbit. It grows at 10 Mbit/s, so it
    # is full after 50 ms, and for the other 50 ms 10 Mbit/s are lost: 0.5 Mbit. Delivered are
    # 20 Mbit/s x 100 ms = 2 Mbit, and 2 + 0.5 lost + 0.5 left = 3 Mbit sent. The queue is on
    # average 0.25 Mbit in the first half and 0.5 in the second: 0.375 Mbit.
    assert sent(30.0, 0.0, 20.0, 0.5) == pytest.approx([2.0, 0.5, 0.5, 0.375])
    # 20 of 20 Mbit/s are delivered; 0.375 / 20 = 18.75 ms in the queue are 0.375 base round-trip
    # times of 50 ms; a sixth is lost: 1 - 0.2 x 0.375 - 2 / 6.
    found = utility(np.array([1.0]), np.array([1.375]), np.array([0.5 / 3.0]))
    assert found == pytest.approx(1.0 - 0.075 - 1.0 / 3.0)


def test_one_interval_that_drains_worked_out_by_hand():
    # 10 of 20 Mbit/s and 0.4 Mbit in the queue, which drains at 10 Mbit/s in 40 ms. Delivered are
    # 0.4 + 1 Mbit. The queue is on average 0.2 Mbit for 40 ms, then empty: 0.08 Mbit.
    assert sent(10.0, 0.4, 20.0, 0.5) == pytest.approx([1.4, 0.0, 0.0, 0.08])


def test_what_is_sent_is_delivered_lost_or_queued():
    rng = np.random.default_rng(0)
    rate, capacity = 10.0 ** rng.uniform(-1, 2.3, (2, 10_000))
    buffer = 10.0 ** rng.uniform(-2, 1, 10_000)
    queue = buffer * rng.uniform(0, 1, 10_000)
    found = send(rate, queue, capacity, buffer)
    kept = found.delivered_mbit + found.lost_mbit + found.queue_mbit - queue
    np.testing.assert_allclose(kept, rate * INTERVAL_S, rtol=1e-12, atol=1e-12)
    assert (found.delivered_mbit <= capacity * INTERVAL_S).all()
    assert (found.lost_mbit >= 0).all()
    assert ((found.queue_mbit >= 0) & (found.queue_mbit <= buffer + 1e-12)).all()


def test_mean_queue_is_that_of_many_small_steps():
    rng = np.random.default_rng(1)
    rate, capacity = rng.uniform(1.0, 40.0, (2, 200))
    buffer = rng.uniform(0.1, 4.0, 200)
    queue = begin = buffer * rng.uniform(0, 1, 200)
    steps, total = 20_000, np.zeros(200)
    for _ in range(steps):
        after = np.clip(queue + (rate - capacity) * INTERVAL_S / steps, 0.0, buffer)
        total += (queue + after) / 2.0
        queue = after
    found = send(rate, begin, capacity, buffer)
    np.testing.assert_allclose(found.mean_queue_mbit, total / steps, atol=1e-3)
    np.testing.assert_allclose(found.queue_mbit, queue, atol=1e-9)


def test_equal_seeds_give_equal_links_within_their_ranges():
    for seed in range(200):
        link, again = make_link(seed), make_link(seed)
        np.testing.assert_array_equal(link.capacity_mbps, again.capacity_mbps)
        assert link[1:] == again[1:]
        assert link.capacity_mbps.shape == (NUM_INTERVALS,)
        assert link.capacity_mbps.min() >= 4.0 * 0.5 * 0.95
        assert link.capacity_mbps.max() <= 40.0 * 2.0 * 1.05
        assert 0.02 <= link.rtt_s <= 0.08 < INTERVAL_S
    assert make_link(0).rtt_s != make_link(1).rtt_s


def test_sets_share_no_link():
    sets = sorted(LINK_SETS.values(), key=lambda seeds: seeds.start)
    assert all(a.stop <= b.start for a, b in pairwise(sets))
    assert [name for name, _ in list_links()] == list(LINK_SETS)
