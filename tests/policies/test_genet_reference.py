"""The published GENET and UDR actors: a made-up network by hand, the real ones by their outputs."""

import json

import numpy as np
import pytest
import torch

from netllm_gym.data.abr.traces import Trace
from netllm_gym.data.abr.video import PENSIEVE_LADDER_MBPS, Video
from netllm_gym.envs.abr.vector_env import ABRVectorEnv
from netllm_gym.errors import InputError, MissingDataError
from netllm_gym.policies.neural.abr import (
    ACTOR_FILES,
    ReferenceActorPolicy,
    choose_moves,
    read_actor,
    reference_actor,
)
from tests.policies.test_abr_golden import (
    SHARED,
    assert_equal_runs,
    fcc_test,
    needs_data,
    play,
    reference_rows,
)

LAYERS = {  # shapes of the published archives
    **{f"fc_{name}": (1, 128) for name in ("bitrate", "buffer", "remain")},
    **{f"conv_{name}": (4, 1, 6, 128) for name in ("throughput", "delay", "sizes")},
    "fc_hidden": (768, 128),
    "fc_out": (128, 3),
}


def blank_arrays():
    arrays = {f"{layer}_W": np.zeros(shape, np.float32) for layer, shape in LAYERS.items()}
    for layer, shape in LAYERS.items():
        arrays[f"{layer}_b"] = np.zeros(shape[-1], np.float32)
        if layer.startswith("conv_"):
            arrays[f"{layer}_W"][[0, 2, 3]] = np.nan  # kernel rows that never meet data
    return arrays


@pytest.fixture
def plant(tmp_path, monkeypatch):
    """Return a function that puts made-up weights where a published actor is looked for."""
    monkeypatch.setenv("NETLLM_GYM_DATA", str(tmp_path))
    (tmp_path / "abr/weights").mkdir(parents=True)

    def write(arrays, file="actor_genet.npz"):
        path = tmp_path / "abr/weights" / file
        np.savez(path, **arrays)
        return path

    return write


def small_env(num_envs=1, ladder_mbps=PENSIEVE_LADDER_MBPS):
    sizes = np.rint(np.outer(np.ones(9), np.array(ladder_mbps)) * 5e5).astype(np.int64)
    rates = np.random.default_rng(0).gamma(1.5, 1.5, 200)
    trace = Trace("wild", np.arange(200.0), rates)
    video = Video("made", sizes, np.array(ladder_mbps), 8)
    return ABRVectorEnv(num_envs, [trace], video, autoreset_mode="Disabled")


def test_each_branch_reads_its_own_cells(plant):
    # Unit k of the hidden layer copies unit 0 of branch k; output 0 weighs them 1, 10, ... 10^5,
    # output 1 is its bias of -1, output 2 half of output 0.
    arrays = blank_arrays()
    order = ["fc_bitrate", "fc_buffer", "conv_throughput", "conv_delay", "conv_sizes", "fc_remain"]
    for k, layer in enumerate(order):
        weight = arrays[f"{layer}_W"]
        if layer.startswith("conv_"):
            weight[1, 0, :, 0] = [1, 2, 3, 4, 5, 6]  # newest column last
        else:
            weight[0, 0] = 1.0
        arrays["fc_hidden_W"][128 * k, k] = 1.0
        arrays["fc_out_W"][k, 0] = 10.0**k
        arrays["fc_out_W"][k, 2] = 0.5 * 10.0**k
    arrays["fc_out_b"][1] = -1.0
    # A seventh hidden unit, minus branch 2, would count 100 if either rectifier let it through.
    arrays["fc_hidden_W"][2 * 128, 6], arrays["fc_out_W"][6, 1] = -1.0, 100.0
    actor = read_actor(plant(arrays))
    seen = np.zeros((2, 6, 6), np.float32)
    seen[0, 0, 5], seen[0, 1, 5], seen[0, 5, 5] = 0.5, 2.0, 0.25  # newest bitrate, buffer, left
    seen[0, 0, 4] = seen[0, 1, 4] = seen[0, 5, 4] = 9.0  # older ones are not read
    seen[0, 2, [0, 5]] = 1.0  # 1 + 6 = 7
    seen[0, 3, 4] = 2.0  # 5 * 2 = 10
    seen[0, 4, 1] = 3.0  # 2 * 3 = 6
    seen[1, 2, 0] = -1.0  # below 0: the rectifier makes it 0
    # 0.5 + 10 * 2 + 100 * 7 + 1000 * 10 + 10^4 * 6 + 10^5 * 0.25 = 95,720.5
    with torch.no_grad():
        logits = actor(torch.from_numpy(seen)).numpy()
    np.testing.assert_allclose(logits, [[95720.5, -1.0, 47860.25], [0.0, -1.0, 0.0]], rtol=1e-6)


@pytest.mark.parametrize(
    ("favourite", "actions"),
    [(0, "00000000"), (1, "00000000"), (2, "01234555")],  # clipped at both ends of the ladder
)
def test_moves_go_one_rung_and_stay_on_the_ladder(plant, favourite, actions):
    arrays = blank_arrays()
    arrays["fc_out_b"][favourite] = 1.0
    plant(arrays)
    env = small_env()
    assert play(ReferenceActorPolicy(env), env, [0])[0].actions == actions


def test_a_move_down_leaves_the_rung_of_the_observation(plant):
    arrays = blank_arrays()
    arrays["fc_out_b"][0] = 1.0
    plant(arrays)
    env = small_env()
    seen, infos = env.reset(seed=0)
    seen, _, _, _, infos = env.step(np.array([4]))
    assert ReferenceActorPolicy(env).act(seen, np.zeros(1), infos).tolist() == [3]


@pytest.mark.parametrize(
    ("probabilities", "thousandths", "move"),
    [
        # Cumulative 0.25, 0.5, 1; the first that exceeds k/1000 strictly.
        ([0.25, 0.25, 0.5], 1, 0),
        ([0.25, 0.25, 0.5], 249, 0),
        ([0.25, 0.25, 0.5], 250, 1),
        ([0.25, 0.25, 0.5], 499, 1),
        ([0.25, 0.25, 0.5], 500, 2),
        ([0.25, 0.25, 0.5], 999, 2),
        ([0.25, 0.25, 0.4375], 999, 0),  # rounding left none: move 0
        # 0.2 as float32 lies above 0.2, but the grid number is rounded to float32 too.
        ([0.2, 0.3, 0.5], 200, 1),
    ],
)
def test_sampled_move_is_the_first_above_the_grid_number(probabilities, thousandths, move):
    row = np.array([probabilities], np.float32)
    assert choose_moves(row, np.array([thousandths])).tolist() == [move]


def test_sampled_moves_come_as_often_as_they_should_and_by_seed(plant):
    arrays = blank_arrays()
    arrays["fc_out_b"][:] = np.log([0.2, 0.3, 0.5])
    plant(arrays)
    env, alone = small_env(3000), small_env(1)
    policy, single = (reference_actor("genet_reference:sampled")(e) for e in (env, alone))
    assert policy.name == "genet_reference:sampled"
    env.reset(seed=0)
    seen, _, _, _, infos = env.step(np.full(3000, 3))
    policy.reset(np.arange(3000), np.arange(3000))
    actions = policy.act(seen, np.zeros(3000), infos)
    # k/1000 falls below 0.2 in 199 cases of 999, below 0.5 in 499.
    shares = np.bincount(actions, minlength=6)[2:5] / 3000
    np.testing.assert_allclose(shares, [199 / 999, 300 / 999, 500 / 999], atol=0.035)
    for row in (0, 17, 2999):
        single.reset(np.array([0]), np.array([row]))
        assert single.act(seen[row : row + 1], np.zeros(1), {}) == actions[row]
    policy.reset(np.arange(3000), np.arange(3000))  # the same episodes again
    assert (policy.act(seen, np.zeros(3000), infos) == actions).all()


def test_grid_numbers_run_from_1_to_999(plant):
    plant(blank_arrays())
    policy = ReferenceActorPolicy(small_env(200_000), sampled=True)
    policy.reset(np.arange(200_000), np.arange(200_000))
    counts = np.bincount(policy._thousandths(), minlength=1000)
    assert len(counts) == 1000
    assert counts[0] == 0
    assert counts[1:].min() > 100  # about 200 each


def test_missing_weights_are_one_sentence(plant, tmp_path):
    with pytest.raises(MissingDataError, match=r"actor_udr_2.npz must be on this machine, got no"):
        reference_actor("udr_2_reference")(small_env())


def test_wrong_archives_are_refused(plant, tmp_path):
    arrays = blank_arrays()
    missing = plant({key: value for key, value in arrays.items() if key != "fc_out_b"})
    with pytest.raises(InputError, match=r"fc_out_b of .* must be \(3,\) of float32, got none"):
        read_actor(missing)
    wide = plant({**arrays, "fc_out_W": np.zeros((128, 6), np.float32)})
    with pytest.raises(InputError, match=r"fc_out_W of .* must be \(128, 3\).*got \(128, 6\)"):
        read_actor(wide)
    pickled = plant({**arrays, "fc_out_b": np.array([print, None, 1], object)})
    with pytest.raises(InputError, match=r"must be a \.npz archive of plain arrays"):
        read_actor(pickled)
    whole = plant(arrays).read_bytes()
    missing.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"must be a \.npz archive of plain arrays"):
        read_actor(missing)
    broken = plant({**arrays, "fc_out_b": np.array([0, np.nan, 0], np.float32)})
    with pytest.raises(InputError, match=r"fc_out of .*actor_genet.npz must be finite"):
        read_actor(broken)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(InputError, match=r"one.npy must be a \.npz archive of plain arrays"):
        read_actor(tmp_path / "one.npy")
    missing.write_text("no archive")
    with pytest.raises(InputError, match=r"must be a \.npz archive of plain arrays"):
        read_actor(missing)


def test_unknown_names_and_ladders_are_refused(plant):
    plant(blank_arrays())
    with pytest.raises(InputError, match=r"actor must be one of genet_reference, .*got 'pensieve'"):
        reference_actor("pensieve")(small_env())
    with pytest.raises(InputError, match="decoding must be greedy or sampled, got 'beam'"):
        reference_actor("genet_reference:beam")(small_env())
    with pytest.raises(InputError, match=r"video must have the 6 rungs .* got 3"):
        ReferenceActorPolicy(small_env(ladder_mbps=(1.0, 2.0, 4.0)))


# --- the published weights ------------------------------------------------------------------


@needs_data
@pytest.mark.parametrize("name", ACTOR_FILES)
def test_actor_equals_the_original_graph(name):
    text = (SHARED / "reference/abr/actor_forward_reference.json").read_text()
    reference = json.loads(text)
    actor = read_actor(SHARED / "data/abr/weights" / ACTOR_FILES[name])
    inputs = torch.tensor(reference["inputs"], dtype=torch.float32)
    with torch.no_grad():
        probabilities = torch.softmax(actor(inputs), dim=1).numpy()
    expected = reference["probs"][name.removesuffix("_reference")]
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=2e-6)


@needs_data
@pytest.mark.parametrize(
    ("name", "mean_qoe"),
    [
        ("genet_reference", 0.827491),
        ("udr_1_reference", 0.933240),
        ("udr_2_reference", 0.919106),
        ("udr_3_reference", 0.607003),
        ("udr_real_reference", 0.938017),
    ],
)
def test_greedy_actor_equals_the_reference(name, mean_qoe):
    env = fcc_test(100)
    rows = reference_rows(name.replace("_reference", "_greedy"))
    assert_equal_runs(play(reference_actor(name)(env), env, range(100)), *rows, mean_qoe)


class OneStream(ReferenceActorPolicy):
    """Draws as the reference does: one legacy stream for all, one draw lost at each end."""

    def __init__(self, env, actor):
        super().__init__(env, actor, sampled=True)
        self._stream = np.random.RandomState(100003)

    def _thousandths(self):
        return np.array([self._stream.randint(1, 1000)])

    def end(self, rows, observations):
        self._thousandths()


@needs_data
@pytest.mark.parametrize(
    ("name", "mean_qoe"),
    [
        ("genet_reference", 0.847871),
        # One row at a time takes seconds, and one actor shows the rule.
        pytest.param("udr_1_reference", 0.809006, marks=pytest.mark.slow),
        pytest.param("udr_2_reference", 0.798979, marks=pytest.mark.slow),
        pytest.param("udr_3_reference", 0.704953, marks=pytest.mark.slow),
        pytest.param("udr_real_reference", 0.806559, marks=pytest.mark.slow),
    ],
)
def test_sampling_rule_equals_the_run_that_the_reference_printed(name, mean_qoe):
    text = (SHARED / "reference/abr/peer_pensieve_models_sampled_fcc-test.json").read_text()
    run = json.loads(text)["models"][name.removesuffix("_reference")]
    env = fcc_test(1)
    played = play(OneStream(env, name), env, range(100))
    assert_equal_runs(played, run["actions"], run["per_trace_qoe"], mean_qoe)
