"""Frames of the environments: one picture with two panels over a time axis, drawn by matplotlib."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netllm_gym.envs.curves import Mark
from netllm_gym.errors import MissingDataError

# Colours of Okabe and Ito, which colour-blind people can distinguish, the pale ones darkened.
BLUE, ORANGE, RED, GREEN, GREY = "#0072B2", "#B87A00", "#D55E00", "#007A5A", "#D9DEE3"
DARK_GREY = "#444444"
MORE_COLOURS = ("#CC79A7", "#56B4E9", "#6A4C93", "#8C8C00", "#444444")


def check_can_draw() -> None:
    """Refuse to draw where matplotlib is missing."""
    if find_spec("matplotlib") is None:
        raise MissingDataError(
            "render_mode rgb_array must have matplotlib to draw with, got no such package: "
            "pip install 'netllm-gym[report]'"
        )


class TwoPanels:
    """A figure of two panels on one time axis that is drawn frame after frame, without a display.

    The axes are made once, because that takes longer than drawing what changes. `looks` says what
    matplotlib is told of each style of a mark, and `gap` is a share of the panels' mean height.
    """

    def __init__(
        self,
        labels: tuple[str, str],
        height_ratios: tuple[int, int],
        gap: float,
        legend: Sequence[Any],
        looks: Mapping[str, Mapping[str, Any]],
    ) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self._looks = looks
        figure = Figure((8.0, 4.8), dpi=100)  # 800 x 480 pixels
        self._canvas: Any = FigureCanvasAgg(figure)  # matplotlib types only a part of it
        room = {"left": 0.075, "right": 0.985, "top": 0.88, "bottom": 0.1, "hspace": gap}
        self._axes = figure.subplots(
            2, 1, sharex=True, height_ratios=height_ratios, gridspec_kw=room
        )
        for axes, label in zip(self._axes, labels, strict=True):
            axes.set_ylabel(label)
            axes.spines[["top", "right"]].set_visible(False)
        self._axes[1].set_xlabel("seconds since the episode began")
        self._title = figure.text(0.075, 0.955, "", fontsize=9.5)
        self._result = figure.text(0.075, 0.91, "", fontsize=9.5, color=DARK_GREY)
        figure.legend(
            handles=legend,
            ncols=len(legend),
            fontsize=8.5,
            frameon=False,
            bbox_to_anchor=(0.99, 0.945),
        )

    def __reduce__(self) -> tuple[type["TwoPanels"], tuple[()]]:
        return type(self), ()  # nothing of a frame is kept, and a canvas cannot be copied

    def clear(self) -> None:
        """Remove what the last frame drew."""
        for axes in self._axes:
            for artist in (*axes.collections, *axes.lines, *axes.patches):
                artist.remove()

    def draw(self, panel: int, marks: Iterable[Mark]) -> None:
        """Draw marks in the upper panel, 0, or the lower one, 1."""
        axes = self._axes[panel]
        for mark in marks:
            look = self._looks[mark.style]
            if mark.kind == "line":
                axes.plot(mark.x, mark.y, solid_capstyle="butt", **look)
            elif mark.kind == "area":
                axes.fill_between(mark.x, mark.y, lw=0, **look)
            else:
                for begin, end in mark.x.reshape(-1, 2):
                    axes.axvspan(begin, end, lw=0, **look)

    def frame(self, title: str, result: str) -> NDArray[np.uint8]:
        """Write both lines of text above the panels; return (480, 800, 3) uint8 pixels."""
        self._title.set_text(title)
        self._result.set_text(result)
        self._canvas.draw()
        return np.array(np.asarray(self._canvas.buffer_rgba())[..., :3])
