"""Windows of head movements: against the slow loop, within their trace, fast and small."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netllm_gym.data.vp.sets import load_viewports, published_splits
from netllm_gym.data.vp.video_features import VideoFeatures
from netllm_gym.data.vp.viewport import (
    InputReport,
    ViewportSet,
    ViewportTrace,
    ViewportWindows,
    WindowConfig,
)
from netllm_gym.errors import InputError


def made_set(lengths, **more):
    """Return traces whose every angle says trace and row: 1000 * trace + row."""
    traces = [
        ViewportTrace(
            1 + number % 2,
            10 + number,
            np.repeat(1000.0 * number + np.arange(n), 3).reshape(n, 3).astype(np.float32),
        )
        for number, n in enumerate(lengths)
    ]
    return ViewportSet("made", "yxz", tuple(traces), **more)


@settings(max_examples=50)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=6),
    *(st.integers(low, high) for low, high in ((2, 5), (1, 5), (0, 6), (0, 6), (1, 9))),
)
def test_windows_are_those_of_the_slow_loop(lengths, history, future, head, tail, stride):
    config = WindowConfig(history, future, history + head, future + tail, stride)
    expected = []
    for number, n in enumerate(lengths):
        t = config.trim_head
        while t < n - config.trim_tail:
            rows = 1000 * number + np.arange(t - history, t + future)
            expected.append(rows)
            t += stride
    dataset = made_set(lengths)
    if not expected:
        with pytest.raises(InputError, match="must have more than"):
            ViewportWindows(dataset, config)
        return
    windows = ViewportWindows(dataset, config)
    found = np.concatenate([windows.history_deg(), windows.future_deg()], axis=1)
    np.testing.assert_array_equal(found, np.repeat(np.array(expected)[..., None], 3, axis=2))
    # No window crosses a trace: thousands are the trace's number.
    assert (found // 1000 == windows.trace[:, None, None]).all()
    assert windows.too_short == len(lengths) - len(set(windows.trace.tolist()))
    np.testing.assert_array_equal(windows.user, 10 + windows.trace)


def test_what_traces_are_short_is_counted():
    windows = ViewportWindows(
        made_set([80, 60, 10], report=InputReport(gaps=2, rows_not_finite=3)), WindowConfig()
    )
    assert windows.report() == [
        "3 rows without finite angles left out",
        "traces cut at 2 gaps above 1 s",
        "2 traces too short for a window",
    ]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"history": 1}, "history must be at least 2, got 1"),
        ({"future": 0}, "future must be at least 1, got 0"),
        ({"history": 40}, "trim_head must be at least history, 40, got 30"),
        ({"trim_tail": 10}, "trim_tail must be at least future, 20, got 10"),
        ({"stride": 0}, "stride must be at least 1, got 0"),
        ({"stride": 10**20}, "stride must be at most 1000000, got 1000"),
        ({"trim_tail": 10**20}, "trim_tail must be at most 1000000, got 1000"),
        ({"history": 10**20}, "history must be at most 1000000, got 1000"),
    ],
)
def test_windows_that_cannot_be_are_refused(values, sentence):
    with pytest.raises(InputError, match=sentence):
        WindowConfig(**values)


def test_content_is_of_the_frames_at_the_time_of_the_history():
    # Two frames a second: sample s of a trace that began 10 samples late is at (10 + s) / 5 s.
    rows = np.arange(40, dtype=np.float32)[:, None] * np.array([1.0, -1.0], np.float32)
    features = VideoFeatures({1: rows}, {1: 2.0})
    trace = ViewportTrace(1, 1, np.zeros((8, 3), np.float32), first_sample=10)
    dataset = ViewportSet("made", "yxz", (trace,), features=features)
    windows = ViewportWindows(dataset, WindowConfig(3, 2, 5, 2, 1))
    expected = [np.floor((10 + s) / 5 * 2) for s in (2, 3, 4)]
    np.testing.assert_array_equal(windows.content()[..., 0], [expected])
    np.testing.assert_array_equal(windows.content()[..., 1], [[-each for each in expected]])
    assert ViewportWindows(made_set([70]), WindowConfig()).content() is None


def test_orders_can_be_changed_and_back():
    there = load_viewports("synthetic-valid", "zxy")
    back = there.in_order("yxz")
    plain = load_viewports("synthetic-valid")
    assert (there.euler_order, plain.euler_order) == ("zxy", "yxz")
    for one, other in zip(back.traces, plain.traces, strict=True):
        np.testing.assert_allclose(one.angles_deg, other.angles_deg, atol=1e-3)
    assert plain.in_order("yxz") is plain


def test_the_windows_of_the_published_splits_are_made_in_300_mb(viewport_data):
    tracemalloc.start()
    made = 0
    for part in published_splits()["jin2022"]:
        windows = ViewportWindows(load_viewports(f"jin2022-{part}"), WindowConfig())
        made += windows.history_deg().shape[0] + 0 * windows.future_deg().shape[0]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert made == 10_080 + 2_006 + 1_950
    assert peak < 300e6
