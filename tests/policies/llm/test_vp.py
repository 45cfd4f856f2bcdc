"""The language model on viewports: one core, its law, both layouts, runs, what is kept."""

import json
from functools import partial

import numpy as np
import pytest
import torch

from netllm_gym.data.vp.angles import angle_error_deg, wrapped_deg
from netllm_gym.errors import InputError
from netllm_gym.policies.llm.config import BackboneConfig, LLMConfig
from netllm_gym.policies.llm.model import LLMModel
from netllm_gym.policies.llm.policy import factory_of, for_acting
from netllm_gym.policies.llm.vp import VPParts
from netllm_gym.policies.loading import load_policy
from netllm_gym.policies.viewport import seen
from netllm_gym.training.llm import llm_learner
from netllm_gym.training.llm_config import TrainConfig
from netllm_gym.training.run import TrainingRun
from tests.policies.made_viewports import awaken, made_features, made_windows

BACKBONE = BackboneConfig("tiny", layers=1)
SCHEDULE = TrainConfig(
    updates=4, batch_episodes=8, accumulate=2, validate_every=2, checkpoint_every=2, threads=1
)


def config_for(windows, backbone=BACKBONE):
    return VPParts().sized(LLMConfig(problem="vp", backbone=backbone, feature_dim=16), windows)


def test_turning_every_yaw_turns_the_prediction():
    windows = made_windows()
    predictor = factory_of(awaken(LLMModel(config_for(windows))))(windows)
    history = windows.history_deg()
    for turn in (-300.0, 17.0, 180.0):
        turned = history.copy()
        turned[..., 2] = wrapped_deg(history[..., 2] + turn)
        expected = predictor.predict(history, None) + np.array([0.0, 0.0, turn])
        assert np.abs(expected[..., 2] - turn - history[:, -1:, 2]).max() > 0.1
        assert angle_error_deg(predictor.predict(turned, None), expected).max() < 1e-3


def test_an_untrained_model_holds_the_last_viewport():
    windows = made_windows()
    history = windows.history_deg()
    predicted = factory_of(LLMModel(config_for(windows)).eval())(windows).predict(history, None)
    np.testing.assert_array_equal(predicted, np.repeat(history[:, -1:], 4, axis=1))


def test_a_prediction_does_not_depend_on_the_windows_beside_it():
    windows = made_windows()
    predictor = factory_of(awaken(LLMModel(config_for(windows))))(windows)
    history = windows.history_deg()
    alone = np.concatenate([predictor.predict(each[None], None) for each in history])
    np.testing.assert_allclose(predictor.predict(history, None), alone, atol=1e-3)


def test_every_sample_of_the_history_and_its_order_count():
    windows = made_windows()
    model = awaken(LLMModel(config_for(windows)))
    features = torch.from_numpy(seen(windows.history_deg()[:4]))
    forecast = VPParts().forecast
    answer = forecast(model, features, None)
    for step in range(features.shape[1]):
        changed = features.clone()
        changed[:, step] += 0.5
        assert not torch.allclose(forecast(model, changed, None), answer, atol=1e-4)
    swapped = features[:, [1, 0, 2, 3, 4, 5]]
    assert not torch.allclose(forecast(model, swapped, None), answer, atol=1e-5)


def test_frames_are_a_second_modality():
    features = made_features()
    windows = made_windows(features=features)
    config = config_for(windows)
    assert (config.layout, config.content_size) == ("content", 5)
    model = LLMModel(config)
    model.encoders.fit(windows)
    shown = windows.content()
    spread = model.encoders.normal(torch.from_numpy(shown.reshape(-1, 5)))
    torch.testing.assert_close(spread.mean(0), torch.zeros(5), atol=0.2, rtol=0)
    predictor = factory_of(awaken(model))(windows)
    history = windows.history_deg()
    one, other = predictor.predict(history, shown), predictor.predict(history, shown + 1.0)
    assert np.abs(one - other).max() > 1e-3
    with pytest.raises(InputError, match="features must be 5, which the predictor was trained for"):
        factory_of(model)(made_windows())
    blind = LLMModel(config_for(made_windows()))
    predictor = factory_of(blind)(windows)  # it need not look
    np.testing.assert_array_equal(
        predictor.predict(history, shown), predictor.predict(history, None)
    )


@pytest.mark.parametrize("with_frames", [False, True])
def test_a_run_that_stops_and_resumes_is_equal_to_the_last_bit(tmp_path, with_frames):
    windows = made_windows(features=made_features() if with_frames else None)
    config = config_for(windows)

    def score(factory):
        predictor = factory(windows)
        return -float(np.abs(predictor.predict(windows.history_deg(), windows.content())).mean())

    def run(out, **more):
        begin = partial(llm_learner, windows, config, SCHEDULE)
        kept_in = TrainingRun(out, validate=score, resume=True, **more)
        return kept_in.train(begin, SCHEDULE)

    run(tmp_path / "whole")
    run(tmp_path / "parts", stop_after=2)
    kept = tmp_path / "parts" / "last" / "config.json"
    values = json.loads(kept.read_text())
    del values["config"]["throughput_weight"]  # as a version without the setting left it
    kept.write_text(json.dumps(values))
    done = run(tmp_path / "parts")
    for file in ("last/policy.safetensors", "last/backbone.safetensors", "last/state.json"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "parts" / file).read_bytes()
    loaded = load_policy(str(tmp_path / "whole"), "vp")
    assert done.best_update is not None
    predicted = loaded.factory(windows).predict(windows.history_deg(), windows.content())
    assert np.isfinite(predicted).all()


def test_lora_is_merged_for_acting_and_kept_apart(tmp_path):
    windows = made_windows()
    config = config_for(windows, BackboneConfig("tiny", layers=1, adapt="lora", lora_rank=2))
    begin = partial(llm_learner, windows, config, SCHEDULE)
    TrainingRun(tmp_path / "run").train(begin, SCHEDULE)
    assert (tmp_path / "run/last/adapter/adapter_model.safetensors").is_file()
    loaded = load_policy(str(tmp_path / "run"), "vp").factory(windows)
    model = awaken(LLMModel(config))
    kept, merged = factory_of(model)(windows), factory_of(for_acting(model))(windows)
    history = windows.history_deg()
    np.testing.assert_allclose(
        kept.predict(history, None), merged.predict(history, None), atol=1e-3
    )
    assert np.isfinite(loaded.predict(history, None)).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"content_size": 3}, "content_size must be above 0 for the layout content, and 0 for"),
        ({"layout": "content"}, "content_size must be above 0 for the layout content, and 0 for"),
        ({"layout": "pair"}, "layout must be one of compact, content, got 'pair'"),
        ({"future": 0}, "future must be at least 1, got 0"),
        ({"euler_order": ""}, "euler_order must be one of zxy, yxz, got ''"),
    ],
)
def test_configs_that_cannot_be_are_refused(changes, sentence):
    import dataclasses

    with pytest.raises(InputError, match=sentence):
        LLMModel(dataclasses.replace(config_for(made_windows()), **changes))
