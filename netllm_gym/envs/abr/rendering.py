"""`ABREnv.render`: an episode so far as a few lines of text, or as a picture."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from netllm_gym.data.abr.video import Video
from netllm_gym.envs.abr.playback import Playback
from netllm_gym.envs.curves import Steps
from netllm_gym.envs.drawing import BLUE, GREEN, GREY, ORANGE, RED, TwoPanels

LEVELS = "▁▂▃▄▅▆▇█"
LONGEST = 60  # chunks in a line of text
LOOKS: dict[str, dict[str, Any]] = {  # style of a mark -> what matplotlib is told of it
    "link": {"color": GREY, "zorder": 0.5},
    "startup": {"color": "#777777", "alpha": 0.25, "zorder": 1},
    "stall": {"color": RED, "alpha": 0.45, "zorder": 1},
    "measured": {"color": ORANGE, "lw": 2},
    "bitrate": {"color": BLUE, "lw": 2.2, "zorder": 3},
    "buffer": {"color": GREEN, "lw": 1.8},
}


class Scene(NamedTuple):
    """An episode so far, and what its axes are drawn for."""

    playback: Playback
    video: Video
    buffer_cap_s: float
    trace: str  # its name
    start_pointer: int
    top_qoe: float  # of a chunk without stall or change
    qoe_unit: str  # empty if it has none

    @property
    def title(self) -> str:
        """Names of trace and video, and how much was downloaded."""
        done = len(self.playback.clock_s) - 1
        return (
            f"trace {self.trace} from row {self.start_pointer}, video {self.video.name}: "
            f"chunk {done} of {self.video.num_chunks - 1}, {self.playback.clock_s[-1]:.1f} s"
        )


def sparkline(values: ArrayLike, low: float, high: float) -> str:
    """Return one bar per value, the last `LONGEST`; `low` is the lowest bar, `high` the tallest."""
    shown = np.asarray(values, np.float64)[-LONGEST:]
    share = (shown - low) / (high - low) if high > low else np.zeros_like(shown)
    index = np.clip((share * len(LEVELS)).astype(np.int64), 0, len(LEVELS) - 1)
    return "".join(LEVELS[level] for level in index)


def episode_text(scene: Scene) -> str:
    """Return the episode so far in six lines: bars chunk by chunk, and the newest numbers."""
    played, top_mbps = scene.playback, float(scene.video.ladder_mbps[-1])
    rate_mbps, buffer_s = played.throughput_mbps[1:], played.buffer_s[1:]
    qoe, stall_s = played.qoe[1:], played.rebuffer_s[1:]
    stall_bars = "".join(
        bar if long_s > 0 else "·"
        for bar, long_s in zip(
            sparkline(stall_s, 0.0, stall_s.max(initial=0.0)), stall_s[-LONGEST:], strict=True
        )
    )
    bars = {
        "bitrate": sparkline(played.bitrate_mbps[1:], 0.0, top_mbps),
        "throughput": sparkline(rate_mbps, 0.0, rate_mbps.max(initial=0.0)),
        "buffer": sparkline(buffer_s, 0.0, scene.buffer_cap_s),
        "stall": stall_bars,
        "QoE": sparkline(qoe, min(0.0, qoe.min(initial=0.0)), scene.top_qoe),
    }
    newest = [
        f"{played.bitrate_mbps[-1]:.2f} Mbit/s",
        f"{played.throughput_mbps[-1]:.2f} Mbit/s",
        f"{played.buffer_s[-1]:.2f} s",
        f"{stall_s.sum():.2f} s in all, start-up {played.startup_s:.2f} s",
        f"{qoe[-1]:.2f}{_unit(scene)}, mean {qoe.mean():.3f}" if len(qoe) else "none yet",
    ]
    rows = [
        " ".join(filter(None, [name.ljust(10), bars[name], text]))
        for name, text in zip(bars, newest, strict=True)
    ]
    return "\n".join([scene.title, *rows])


def _unit(scene: Scene) -> str:
    return f" {scene.qoe_unit}" if scene.qoe_unit else ""


class Painter(TwoPanels):
    """Draws episodes of ABR.

    Above: the link's capacity, the measured throughput and the chosen bitrate. Below: the buffer.
    Times in which playback stood still are shaded in both. The axes stay the same over an episode.
    """

    def __init__(self) -> None:
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        handles = [
            Patch(color=GREY, label="link capacity"),
            Line2D([], [], color=ORANGE, lw=2, label="measured"),
            Line2D([], [], color=BLUE, lw=2, label="bitrate"),
            Patch(color=RED, alpha=LOOKS["stall"]["alpha"], label="stall"),
        ]
        super().__init__(("Mbit/s", "buffer, s"), (3, 2), gap=0.1, legend=handles, looks=LOOKS)

    def paint(self, scene: Scene, link: Steps) -> NDArray[np.uint8]:
        """Draw the episode so far.

        Args:
            scene: The episode.
            link: Capacity on the clock of the episode.

        Returns:
            (480, 800, 3) uint8 red, green, blue.
        """
        played, video = scene.playback, scene.video
        rates, buffer = self._axes
        self.clear()
        self.draw(0, played.rate_marks(link))
        self.draw(1, played.buffer_marks())
        rates.set_ylim(0.0, 1.5 * float(video.ladder_mbps[-1]))  # what is faster is cut off
        buffer.set_ylim(0.0, scene.buffer_cap_s + video.longest_s)
        buffer.set_xlim(0.0, max(video.duration_s, float(played.clock_s[-1])))
        counted = played.qoe[1:]
        mean_qoe = "none yet"
        if len(counted):
            mean_qoe = f"{counted.mean():.3f}{_unit(scene)} per chunk"
        stalled_s = played.rebuffer_s[1:].sum()
        return self.frame(scene.title, f"QoE {mean_qoe}, stalled {stalled_s:.2f} s")
