"""Returns-to-go, padded episodes and windows, against loops that are slow and obvious."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netllm_gym.errors import InputError
from netllm_gym.pools.pool import ExperiencePool, PoolWriter
from netllm_gym.pools.windows import PaddedEpisodes, Windows
from tests.pools.made import made_episode

LENGTHS = st.lists(st.integers(1, 23), min_size=1, max_size=8)


def padded(lengths):
    return PaddedEpisodes.of([made_episode(seed, n) for seed, n in enumerate(lengths)])


def windows_of(lengths, num_steps, stride=1):
    episodes = padded(lengths)
    return Windows(episodes, episodes.returns_to_go(), num_steps, stride)


def rewarded(*rewards):
    """Return padded episodes with these rewards."""
    made = [made_episode(seed, len(each)) for seed, each in enumerate(rewards)]
    pairs = zip(made, rewards, strict=True)
    return PaddedEpisodes.of([replace(one, rewards=np.array(each, float)) for one, each in pairs])


def test_worked_example():
    # 1 + 0.9 x 2 + 0.81 x 3 = 5.23;  2 + 0.9 x 3 = 4.7;  3;  and 4 in an episode of its own.
    episodes = rewarded([1.0, 2.0, 3.0], [4.0])
    before = episodes.rewards.copy()
    expected = [[5.23, 4.7, 3.0], [4.0, 0.0, 0.0]]
    np.testing.assert_allclose(episodes.returns_to_go(0.9), expected, rtol=1e-15)
    np.testing.assert_array_equal(episodes.rewards, before)
    for gamma in (1.5, float("nan")):
        with pytest.raises(InputError, match=f"gamma must be in 0..1, got {gamma}"):
            episodes.returns_to_go(gamma)


@given(
    st.lists(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.3, 0.99, 1.0]),
)
def test_returns_equal_the_sum_written_out(rewards, gamma):
    found = rewarded(*rewards).returns_to_go(gamma)
    for row, mine in enumerate(rewards):
        for step in range(found.shape[1]):
            total = sum(gamma**ahead * reward for ahead, reward in enumerate(mine[step:]))
            np.testing.assert_allclose(found[row, step], total, atol=1e-9)


@given(LENGTHS)
def test_padding_holds_the_episodes_and_nothing_else(lengths):
    made = [made_episode(seed, n, policy="ab"[seed % 2]) for seed, n in enumerate(lengths)]
    arrays = PaddedEpisodes.of(made)
    for row, episode in enumerate(made):
        n = episode.num_steps
        np.testing.assert_array_equal(arrays.observations[row, :n], episode.observations)
        np.testing.assert_array_equal(arrays.actions[row, :n], episode.actions)
        np.testing.assert_array_equal(arrays.rewards[row, :n], episode.rewards)
        np.testing.assert_array_equal(arrays.timesteps[row, :n], np.arange(n))
        assert arrays.mask[row].sum() == n == arrays.lengths[row]
        assert arrays.mask[row, :n].all()
        for values in (arrays.observations, arrays.actions, arrays.rewards, arrays.timesteps):
            assert not values[row, n:].any()
        assert arrays.policies[arrays.policy[row]] == episode.policy
        assert (arrays.seed[row], arrays.cases[row]) == (episode.seed, episode.case)


def test_a_pool_is_laid_out_as_its_episodes_are(tmp_path):
    made = [made_episode(seed, 3 + seed, policy=("bba", "mpc")[seed % 2]) for seed in range(6)]
    writer = PoolWriter(tmp_path / "pool", "abr", {}, {"num_shards": 3})
    for number in range(3):
        writer.write(number, made[2 * number : 2 * number + 2])
    pool = ExperiencePool.load(tmp_path / "pool")
    for policies, kept in ((None, made), (["mpc"], made[1::2])):
        found, expected = PaddedEpisodes.from_pools([pool], policies), PaddedEpisodes.of(kept)
        assert found.policies == expected.policies
        for name in ("observations", "actions", "rewards", "mask", "policy", "seed"):
            np.testing.assert_array_equal(
                getattr(found, name), getattr(expected, name), strict=True, err_msg=name
            )
    with pytest.raises(InputError, match=r"policies must be in the pool \(bba, mpc\), got 'bola'"):
        PaddedEpisodes.from_pools([pool], ["bola"])


def test_what_cannot_be_laid_out_is_refused():
    with pytest.raises(InputError, match="episodes must be at least one, got none"):
        PaddedEpisodes.of([])
    with pytest.raises(InputError, match=r"shape \(6, 6\) in all episodes, got \(6, 8\)"):
        PaddedEpisodes.of([made_episode(0), made_episode(1, width=8)])


@given(LENGTHS, st.integers(1, 30), st.data())
def test_windows_stay_inside_an_episode_and_cover_every_step(lengths, num_steps, data):
    stride = data.draw(st.integers(1, num_steps))
    windows = windows_of(lengths, num_steps, stride)
    # The slow obvious list of windows.
    expected = []
    for episode, length in enumerate(lengths):
        last = max(length - num_steps, 0)
        starts = list(range(0, last + 1, stride))
        if starts[-1] != last:
            starts.append(last)
        expected += [(episode, start) for start in starts]
    found = list(zip(windows.episode.tolist(), windows.start.tolist(), strict=True))
    assert found == expected
    covered = np.zeros(windows.episodes.mask.shape, np.bool_)
    for episode, start in found:
        assert start + min(num_steps, lengths[episode]) <= lengths[episode]
        covered[episode, start : start + num_steps] = True
    assert covered[windows.episodes.mask].all()


@given(LENGTHS, st.integers(1, 30))
def test_batches_hold_the_steps_of_their_windows_and_zeros(lengths, num_steps):
    windows = windows_of(lengths, num_steps)
    arrays, batch = windows.episodes, windows.batch(np.arange(len(windows)))
    assert batch["observations"].shape == (len(windows), num_steps, 6, 6)
    assert [batch[name].dtype for name in ("observations", "returns")] == [np.float32] * 2
    assert [batch[name].dtype for name in ("actions", "timesteps")] == [np.int64] * 2
    for row, (episode, start) in enumerate(zip(windows.episode, windows.start, strict=True)):
        for place in range(num_steps):
            step = start + place
            real = step < lengths[episode]
            assert batch["mask"][row, place] == real
            seen = batch["observations"][row, place]
            if real:
                np.testing.assert_array_equal(seen, arrays.observations[episode, step])
                assert batch["actions"][row, place] == arrays.actions[episode, step]
                assert batch["returns"][row, place] == np.float32(windows.returns[episode, step])
                assert batch["timesteps"][row, place] == step
            else:
                assert not seen.any()
                assert batch["actions"][row, place] == batch["timesteps"][row, place] == 0
                assert batch["returns"][row, place] == 0.0


def test_returns_in_the_padding_do_not_reach_a_batch():
    episodes = padded([2, 5])
    windows = Windows(episodes, np.full((2, 5), 7.0), num_steps=5)  # as a shifted ReturnSpec gives
    np.testing.assert_array_equal(windows.batch(np.array([0]))["returns"], [[7, 7, 0, 0, 0]])


def test_batches_do_not_write_into_the_episodes():
    windows = windows_of([2, 5], num_steps=4)
    before = windows.episodes.observations.copy()
    windows.batch(np.arange(len(windows)))["observations"][:] = -1.0
    np.testing.assert_array_equal(windows.episodes.observations, before)


@given(st.integers(1, 40), st.integers(1, 17), st.integers(0, 5))
def test_every_pass_takes_every_window_once(num_windows, batch_size, seed):
    windows = windows_of([num_windows], num_steps=1)
    updates = -(-3 * num_windows // batch_size)
    taken = np.concatenate([windows.sample(seed, u, batch_size) for u in range(updates)])
    for begin in range(0, 3 * num_windows, num_windows):
        assert sorted(taken[begin : begin + num_windows]) == list(range(num_windows))


def test_a_sample_depends_on_seed_and_update_alone():
    one, other = windows_of([40, 9], num_steps=4), windows_of([40, 9], num_steps=4)
    later = one.sample(1, 3, 8)
    for update in range(3):
        other.sample(1, update, 8)
    np.testing.assert_array_equal(other.sample(1, 3, 8), later)
    assert not np.array_equal(one.sample(2, 3, 8), later)
    assert not np.array_equal(one.sample(1, 3 + 100, 8), later)
    first, second = (one.sample(1, update, len(one)) for update in (0, 1))
    assert not np.array_equal(first, second)  # a new shuffle in every pass


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ({"num_steps": 3, "stride": 4}, "stride must be in 1..3, the window, got 4"),
        ({"num_steps": 3, "stride": 0}, "stride must be in 1..3, the window, got 0"),
        ({"num_steps": 3, "returns": np.zeros((2, 4))}, r"returns must have shape \(2, 5\)"),
    ],
)
def test_wrong_windows_are_refused(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        Windows(padded([2, 5]), **({"returns": np.zeros((2, 5))} | arguments))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((0, 0, 0), "batch_size must be at least 1"),
        ((-1, 0, 4), "seed and update at least 0, got 4, -1 and 0"),
    ],
)
def test_wrong_samples_are_refused(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        windows_of([2, 5], num_steps=3).sample(*arguments)
