"""`gym.make` against the reference simulator, chunk by chunk (1e-9; one float32 step)."""

import json
import os
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import netllm_gym  # noqa: F401  # registers the ids
from netllm_gym.data.abr.traces import Trace
from netllm_gym.data.abr.video import Video

MADE = json.loads((Path(__file__).parents[2] / "golden/sim_made_traces.json").read_text())
SHARED = Path(os.environ.get("NETLLM_GYM_DATA", "nowhere")).parent / "golden/abr"
GOLDEN = sorted(SHARED.glob("sim_test_*.json"))


def assert_float32_equal(found, expected):
    """Both round the same real number once; they may fall one float32 apart."""
    steps = found.view(np.int32) - np.asarray(expected, np.float32).view(np.int32)
    assert np.abs(steps).max() <= 1


def assert_info(info, download_ms, buffer_s, rebuffer_s, size_bytes, reward):
    found = [info[key] for key in ("download_s", "buffer_s", "rebuffer_s", "size_bytes", "qoe")]
    expected = [download_ms / 1000, buffer_s, rebuffer_s, size_bytes, reward]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("made", MADE["traces"], ids=lambda made: made["name"])
def test_made_traces(made):
    sizes = np.array(MADE["chunk_sizes_bytes"]).T
    video = Video("made", sizes, np.array(MADE["ladder_kbps"]) / 1000, MADE["chunks"])
    trace = Trace(made["name"], np.array(made["time_s"]), np.array(made["mbps"]))
    env = gym.make("NetLLM-ABR-v0", traces=[trace], video=video)
    for sequence in made["sequences"].values():
        for number, chunk in enumerate(sequence["chunks"]):
            if number == 0:
                options = {"trace": 0, "start_pointer": int(made["start_pointer"])}
                observation, info = env.reset(options=options)
            else:
                observation, reward, terminated, _, info = env.step(chunk["action"])
                assert reward == info["qoe"]
                assert terminated == chunk["end"]
            assert_info(
                info,
                *(chunk["delay_ms"], chunk["buffer_s"], chunk["rebuffer_s"]),
                *(chunk["size_bytes"], chunk["reward"]),
            )
            if "observation" in chunk:
                assert_float32_equal(observation, chunk["observation"])


@pytest.mark.skipif(not GOLDEN, reason="golden/abr must lie beside the folder NETLLM_GYM_DATA")
@pytest.mark.parametrize("path", GOLDEN or [Path("none")], ids=lambda path: path.stem)
def test_published_traces(path):
    golden = json.loads(path.read_text())
    env = gym.make("NetLLM-ABR-v0", traces="fcc-test", video="video1")
    for sequence in golden["sequences"].values():
        for number, action in enumerate(sequence["action"]):
            if number == 0:
                observation, info = env.reset(options={"trace": golden["trace_index"]})
                assert env.unwrapped.start_pointer[0] == golden["mahimahi_ptr"]
            else:
                observation, _, terminated, _, info = env.step(action)
                assert terminated == sequence["end"][number]
            assert_info(
                info,
                *(sequence["delay_ms"][number], sequence["buffer_s"][number]),
                *(sequence["rebuf_s"][number], sequence["chunk_size"][number]),
                sequence["reward"][number],
            )
            assert_float32_equal(observation, sequence["obs"][number])
