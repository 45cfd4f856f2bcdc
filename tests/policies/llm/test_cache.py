"""Acting step by step with a cache decides what one pass over the whole episode decides."""

import pytest
import torch

from netllm_gym.policies.llm.model import inputs_of
from tests.policies.llm.made import (
    MAX_STEPS,
    SHAPES,
    make_batch,
    make_episodes,
    make_model,
    shape_folder,
)

WITHOUT_RETURN = {"positions": "auto"}


def whole(model, batch):
    with torch.inference_mode():
        return model(inputs_of(batch))


def served(model, batch, begins, num_ticks):
    """Play a batch's episodes one after the other on fewer rows, with one cache.

    Args:
        model: What decides.
        batch: Episodes of MAX_STEPS steps.
        begins: begins[row] = {tick: episode}, the episodes that the row begins.
        num_ticks: Steps that all rows make together.

    Returns:
        (E, MAX_STEPS, actions) logits, NaN for what was not played.
    """
    inputs, rows = inputs_of(batch), len(begins)
    logits = torch.full((len(batch["mask"]), MAX_STEPS, 6), torch.nan)
    cache, playing, step = model.new_cache(rows), [0] * rows, [MAX_STEPS] * rows
    for tick in range(num_ticks):
        for row, plan in enumerate(begins):
            if tick in plan:
                playing[row], step[row] = plan[tick], 0
                cache.forget(torch.tensor([row]))
        at = [min(each, MAX_STEPS - 1) for each in step]  # past the end: what nobody uses
        now = {name: each[playing, at][:, None] for name, each in inputs.items()}
        with torch.inference_mode():
            decided = model(now, cache)[:, 0]
        for row in range(rows):
            if step[row] < MAX_STEPS:
                logits[playing[row], step[row]] = decided[row]
            step[row] += 1
    return logits


@pytest.mark.parametrize("layout", ["compact", "pair", "netllm"])
@pytest.mark.parametrize("context_steps", [None, 1, 3])
@pytest.mark.parametrize("kind", SHAPES)
def test_cached_equals_uncached_also_when_rows_restart_at_different_times(
    tmp_path, kind, context_steps, layout
):
    model = make_model(shape_folder(tmp_path, kind), layout, context_steps)
    batch = make_batch(make_episodes(5))
    begins = [{0: 0, MAX_STEPS: 1}, {0: 2, MAX_STEPS + 4: 3}, {5: 4}]
    logits = served(model, batch, begins, 2 * MAX_STEPS + 4)
    expected = whole(model, batch)
    assert expected.std() > 0.05
    assert (logits - expected).abs().max() < 1e-5


def test_a_row_that_is_cut_short_leaves_nothing_to_the_next_episode(tmp_path):
    model = make_model(shape_folder(tmp_path, "llama"), "netllm")
    batch = make_batch(make_episodes(3))
    logits = served(model, batch, [{0: 0, 4: 1}, {0: 2}], 4 + MAX_STEPS)
    assert (logits[1:] - whole(model, batch)[1:]).abs().max() < 1e-5


def test_the_ring_is_no_longer_than_the_band_needs(tmp_path):
    model = make_model(shape_folder(tmp_path, "llama"), "netllm", context_steps=3)
    cache = model.new_cache(2)
    inputs = inputs_of(make_batch(make_episodes(2)))
    for step in range(MAX_STEPS):
        with torch.inference_mode():
            model({name: each[:, step : step + 1] for name, each in inputs.items()}, cache)
    assert cache.layers[0].keys.shape[2] == cache.used == (3 + 1) * 8


def test_a_band_shorter_than_the_episode_hides_what_lies_before_it(tmp_path):
    # Two blocks, each reaching 2 steps back: step 8 can know of step 4, and not of step 3.
    model = make_model(shape_folder(tmp_path, "llama"), "compact", context_steps=3)
    batch = make_batch(make_episodes(1))
    expected = whole(model, batch)
    for step, knows in [(3, False), (4, True)]:
        changed = {name: each.clone() for name, each in batch.items()}
        changed["observations"][:, step] += 1.0
        differs = (whole(model, changed) - expected).abs()[0, 8].max() > 0
        assert differs == knows
