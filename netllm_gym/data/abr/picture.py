"""A picture of trace sets: how their mean capacities are spread, and a few traces over time."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from netllm_gym.data.abr.inspection import mean_capacity_mbps
from netllm_gym.data.abr.traces import Trace, TraceSet
from netllm_gym.errors import InputError, MissingDataError
from netllm_gym.files import write_whole

SUFFIXES = (".png", ".svg", ".pdf")
# Okabe and Ito's colours, which colour-blind readers tell apart; sets beyond them begin again.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
SHOWN = {  # percentiles of the mean capacity
    "trace at 10 % of the mean capacities": 10,
    "at 50 %": 50,
    "at 90 %": 90,
}
LINES = (":", "-", "--")
LONGEST_S = 600.0  # of a trace that is drawn


def check_can_draw(path: Path) -> None:
    """Refuse a picture that could not be written, before anything is worked out."""
    if path.suffix not in SUFFIXES or path.is_dir() or not path.parent.is_dir():
        raise InputError(
            f"picture must be a {', '.join(SUFFIXES)} file in an existing folder, got {path}"
        )
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise MissingDataError(
            "matplotlib must be installed to draw a picture, got none: "
            "pip install 'netllm-gym[report]'"
        ) from None


def draw_traces(sets: Mapping[str, TraceSet], path: Path) -> None:
    """Draw the sets: the spread of mean capacities on the left, traces over time on the right.

    Args:
        sets: Name -> set.
        path: A PNG, SVG or PDF file.
    """
    from matplotlib.figure import Figure

    height = max(4.0, 2.2 * len(sets))
    figure = Figure(figsize=(12.0, height), layout="constrained")
    grid = figure.add_gridspec(len(sets), 2, width_ratios=(2, 3))
    spread = figure.add_subplot(grid[:, 0])
    over_time = list(
        grid[:, 1].subgridspec(len(sets), 1).subplots(sharex=True, squeeze=False)[:, 0]
    )
    for number, (name, each) in enumerate(sets.items()):
        colour = COLOURS[number % len(COLOURS)]
        means_mbps = np.sort([mean_capacity_mbps(trace) for trace in each.traces])
        share = np.arange(1, len(means_mbps) + 1) / len(means_mbps)
        label = f"{name} ({len(means_mbps)} traces)"
        spread.step(
            np.append(0.0, means_mbps),
            np.append(0.0, share),
            where="post",
            color=colour,
            label=label,
        )
        axes = over_time[number]
        for (words, trace), line in zip(_shown(each).items(), LINES, strict=True):
            rows = trace.time_s <= LONGEST_S
            axes.step(
                trace.time_s[rows],
                trace.capacity_mbps[rows],
                where="pre",  # a row's capacity holds up to its time
                color=colour,
                linestyle=line,
                linewidth=1.2,
                label=words,
            )
        axes.set(title=name, ylabel="capacity (Mbit/s)")
        axes.set_ylim(0, 1.3 * axes.dataLim.y1)  # room for the legend
        axes.legend(fontsize="small", loc="upper center", ncols=len(SHOWN), frameon=False)
        axes.grid(alpha=0.25)
    over_time[-1].set(xlabel="time (s)", xlim=(0, None))
    spread.set(
        title="Mean capacity of the traces",
        xlabel="mean capacity of a trace (Mbit/s)",
        ylabel="share of traces at or below",
        xlim=(0, None),
        ylim=(0, 1),
    )
    spread.legend(loc="lower right")
    spread.grid(alpha=0.25)
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:], dpi=120)
    write_whole(path, picture.getvalue())


def _shown(traces: TraceSet) -> dict[str, Trace]:
    """Return the traces that stand at the percentiles of the mean capacity."""
    by_mean = sorted(traces.traces, key=mean_capacity_mbps)
    return {
        words: by_mean[round(percent / 100 * (len(by_mean) - 1))]
        for words, percent in SHOWN.items()
    }
