"""GRU and TRACK: laws, what is kept on disk, runs that are interrupted."""

import dataclasses
import json
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from netllm_gym.data.vp.angles import angle_error_deg, wrapped_deg
from netllm_gym.errors import InputError
from netllm_gym.files import replace_folder
from netllm_gym.policies.loading import load_policy
from netllm_gym.policies.neural.checkpoint import load_network_policy, write_network
from netllm_gym.policies.neural.vp import ViewportNetwork, ViewportNetworkConfig
from netllm_gym.policies.viewport import seen
from netllm_gym.training.run import TrainingRun
from netllm_gym.training.viewport import NetworkLearner
from netllm_gym.training.viewport_config import GRUTraining
from tests.policies.made_viewports import CONFIG, awaken, made_windows

KINDS = ("gru", "track")
SCHEDULE = GRUTraining(updates=4, batch_size=16, validate_every=2, checkpoint_every=2)


def config_of(kind):
    return ViewportNetworkConfig(kind, CONFIG.history, CONFIG.future, "yxz", width=8)


def predictor_of(network, windows):
    factory = network.factory(sampled=None, name="made", trained_on={})
    return factory(windows)


def test_features_by_hand():
    history = np.array([[[1.0, 2.0, 170.0], [3.0, 2.0, -170.0]]])  # yaw turns by 20
    features = seen(history)
    place, change, tilt = features[..., :3], features[..., 3:6], features[..., 6:]
    np.testing.assert_allclose(place[0], [[-0.1, 0.0, -1.0], [0.0, 0.0, 0.0]], atol=1e-6)
    np.testing.assert_allclose(change[0], [[0.0, 0.0, 0.0], [0.4, 0.0, 4.0]], atol=1e-6)
    np.testing.assert_allclose(tilt[0], [[0.05, 0.1], [0.15, 0.1]], atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_an_untrained_network_holds_the_last_viewport(kind):
    windows = made_windows()
    history = windows.history_deg()
    predicted = predictor_of(ViewportNetwork(config_of(kind)).eval(), windows)
    future = predicted.predict(history, None)
    np.testing.assert_array_equal(future, np.repeat(history[:, -1:], 4, axis=1))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20)
@given(st.floats(-720, 720))
def test_turning_every_yaw_turns_the_prediction(kind, turn):
    windows = made_windows()
    predictor = predictor_of(awaken(ViewportNetwork(config_of(kind))), windows)
    history = windows.history_deg()
    turned = history.copy()
    turned[..., 2] = wrapped_deg(history[..., 2] + turn)
    expected = predictor.predict(history, None) + np.array([0.0, 0.0, turn])
    assert np.abs(expected[:, :, 2] - turn - history[:, -1:, 2]).max() > 0.1  # it says something
    assert angle_error_deg(predictor.predict(turned, None), expected).max() < 1e-3


def test_track_adds_up_steps_of_its_own():
    """The slow loop: each step is read from the place that the steps before led to."""
    network = awaken(ViewportNetwork(config_of("track")))
    core, features = network.core, torch.from_numpy(seen(made_windows().history_deg()))
    places = torch.stack([features[..., 6], features[..., 7], features[..., 2]], dim=-1)
    read, position = core.position(places)
    _, fusion = core.fusion(read)
    place, total = places[:, -1], torch.zeros(len(places), 3)
    for step in range(4):
        read, position = core.next_position(place[:, None], position)
        read, fusion = core.next_fusion(read, fusion)
        moved = core.head[1](core.head[0](read))[:, 0]
        total = total + moved
        place = place + moved * 10.0 / 20.0
        torch.testing.assert_close(network.forecast(features, None)[:, step], total)


def test_it_learns(tmp_path):
    windows = made_windows(4, 6)
    schedule = dataclasses.replace(SCHEDULE, updates=60, batch_size=64, learning_rate=5e-3)
    lines = []
    begin = partial(NetworkLearner, windows, config_of("gru"), schedule)
    TrainingRun(tmp_path / "run", progress=lines.append).train(begin, schedule)
    losses = [line["loss"] for line in lines]
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:3])


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_stops_and_resumes_is_equal_to_the_last_bit(tmp_path, kind):
    windows, config = made_windows(), config_of(kind)

    def score(factory):
        return -float(np.abs(factory(windows).predict(windows.history_deg(), None)).mean())

    def run(out, **more):
        begin = partial(NetworkLearner, windows, config, SCHEDULE)
        kept_in = TrainingRun(out, validate=score, resume=True, **more)
        return kept_in.train(begin, SCHEDULE)

    run(tmp_path / "whole")
    run(tmp_path / "parts", stop_after=2)
    run(tmp_path / "parts")
    for file in ("last/weights.safetensors", "best/weights.safetensors", "last/state.json"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes()
    other = dataclasses.replace(config, width=9)
    begin = partial(NetworkLearner, windows, other, SCHEDULE)
    with pytest.raises(InputError, match="config must be that of the run"):
        TrainingRun(tmp_path / "parts", resume=True).train(begin, SCHEDULE)


def test_a_predictor_is_kept_and_read_whole(tmp_path):
    windows, network = made_windows(), awaken(ViewportNetwork(config_of("gru")))
    origin = {"dataset": "made", "recordings": ["a"], "validation_recordings": ["b"]}
    replace_folder(tmp_path / "mine", lambda folder: write_network(folder, network, origin))
    loaded = load_policy(str(tmp_path / "mine"), "vp")
    assert (loaded.trained_on, loaded.recordings, loaded.learned) == ("made", {"a"}, True)
    history = windows.history_deg()
    one, other = loaded.factory(windows), predictor_of(network, windows)
    assert one.name == "mine"
    np.testing.assert_array_equal(one.predict(history, None), other.predict(history, None))
    with pytest.raises(InputError, match="must be named without :sampled, it draws nothing"):
        load_policy(f"{tmp_path / 'mine'}:sampled", "vp")
    with pytest.raises(InputError, match="must hold a policy for abr, got one for vp"):
        load_policy(str(tmp_path / "mine"), "abr")
    path = tmp_path / "mine/config.json"
    values = json.loads(path.read_text())
    values["config"]["kind"] = "lstm"
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match="kind must be one of gru, track, got 'lstm'"):
        load_network_policy(tmp_path / "mine")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"history": 7}, "history must be 7, which the predictor was trained for, got 6"),
        ({"future": 5}, "future must be 5, which the predictor was trained for, got 4"),
        ({"euler_order": "zxy"}, "euler_order must be zxy, which the predictor was trained for"),
    ],
)
def test_windows_of_another_shape_are_refused(change, sentence):
    network = ViewportNetwork(dataclasses.replace(config_of("gru"), **change))
    with pytest.raises(InputError, match=sentence):
        predictor_of(network, made_windows())
