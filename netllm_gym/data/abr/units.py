"""Units of time and rate in trace files, and which of them a file can be in.

Many trace files do not name their units. They are read in s and Mbit/s, and this is said. Times and
rates that no link has in these units are refused, and the error names the units that would fit.
"""

import re
from collections.abc import Mapping

import numpy as np

from netllm_gym.arrays import FloatArray
from netllm_gym.errors import InputError

TIME_UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}  # in a second
RATE_UNITS = {  # in a Mbit/s
    "Mbit/s": 1.0,
    "kbit/s": 1e3,
    "bit/s": 1e6,
    "Gbit/s": 1e-3,
    "byte/s": 1.25e5,
    "kbyte/s": 125.0,
    "Mbyte/s": 0.125,
}
FASTEST_MBPS = 1000.0  # mean of a trace; the fastest published ones, of 5G, have 900
SLOWEST_MBPS = 0.01
FAST_MBPS = 100.0  # mean of a trace that is read, and remarked on
USUAL_MBPS = (0.1, 1000.0)  # means that are suggested
LONGEST_STEP_S = 60.0  # median of a trace; those that are played have 0.1 to 5 s
FEWEST_STEPS = 3  # from which on the median counts, unless the link is constant
LONGEST_S = 7 * 24 * 3600.0
LATEST_S = 1e11  # a clock that counts from 1970 reaches this in the year 5138

_TIME_WORDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("us", "usec", "microsecond", "microseconds"), "us"),
    **dict.fromkeys(("ns", "nsec", "nanosecond", "nanoseconds"), "ns"),
}
_RATE_WORD = re.compile(r"([kKmMgG]?)(b|bits?|B|[Bb]ytes?)(?:ps|/s|/sec)")


def time_unit_of(word: str) -> str:
    """Return the unit of time that a word such as `ms` or `seconds` names, or nothing."""
    return _TIME_WORDS.get(word.lower(), "")


def rate_unit_of(word: str) -> str:
    """Return the unit of rate that a word such as `kbps` or `MB/s` names, or nothing."""
    match = _RATE_WORD.fullmatch(word)
    if match is None:
        return ""
    prefix = {"K": "k", "m": "M", "g": "G"}.get(match[1], match[1])
    what = "byte" if match[2] == "B" or match[2].lower().startswith("byte") else "bit"
    return f"{prefix}{what}/s" if f"{prefix}{what}/s" in RATE_UNITS else ""


def check_units(
    place: str,
    time: FloatArray,  # (rows,)
    rate: FloatArray,  # (rows,)
    assumed: Mapping[str, str],
) -> None:
    """Refuse times and rates that no link has in the units in which they are about to be read.

    Args:
        place: The file.
        time: Rising times, in the unit in which they are in the file.
        rate: Entry i holds since entry i - 1 of the times.
        assumed: `time_unit` and `rate_unit`, each only if the file does not say it.

    Raises:
        InputError: With the units that would fit.
    """
    doubts = [
        _time_doubt(time, rate, assumed.get("time_unit", "")),
        _rate_doubt(time, rate, assumed.get("rate_unit", "")),
    ]
    if any(doubts):
        raise InputError(
            f"{place}: {'; '.join(filter(None, doubts))}. "
            "Give the units by --time-unit and --rate-unit (data convert, data inspect) or in the "
            "file trace-set.json of the folder"
        )


def is_doubtful(time_s: FloatArray, capacity_mbps: FloatArray) -> bool:
    """Say whether `check_units` refuses a trace in s and Mbit/s."""
    return bool(
        _time_doubt(time_s, capacity_mbps, "s") or _rate_doubt(time_s, capacity_mbps, "Mbit/s")
    )


def mean_rate(time: FloatArray, rate: FloatArray) -> float:
    """Return the mean of the rates over time."""
    return float(np.diff(time) @ rate[1:] / (time[-1] - time[0])) if len(time) > 1 else 0.0


def _time_doubt(time: FloatArray, rate: FloatArray, unit: str) -> str:
    if not unit or len(time) < 2 or _times_fit(time / TIME_UNITS[unit], rate):
        return ""
    step = float(np.median(np.diff(time))) / TIME_UNITS[unit]
    span = float(time[-1] - time[0]) / TIME_UNITS[unit]
    fitting = [each for each, factor in TIME_UNITS.items() if _times_fit(time / factor, rate)]
    return (
        f"times must be at most {LONGEST_STEP_S:g} s apart and {LONGEST_S:,.0f} s in all, "
        f"got {step:,.4g} s and {span:,.0f} s{_would_fit(unit, fitting[:1])}"
    )


def _rate_doubt(time: FloatArray, rate: FloatArray, unit: str) -> str:
    if not unit:
        return ""
    in_units = mean_rate(time, rate)
    mean_mbps = {each: in_units / factor for each, factor in RATE_UNITS.items()}
    mean = mean_mbps[unit]
    if mean == 0 or SLOWEST_MBPS <= mean <= FASTEST_MBPS:
        return ""  # a link without capacity is refused with another reason
    fitting = [
        f"{each} ({in_mbps:.3g} Mbit/s)"
        for each, in_mbps in mean_mbps.items()
        if USUAL_MBPS[0] <= in_mbps <= USUAL_MBPS[1]
    ]
    return (
        f"rates must have a mean of {SLOWEST_MBPS:g} to {FASTEST_MBPS:,.0f} Mbit/s, "
        f"got {f'{mean:,.0f}' if mean >= 1 else f'{mean:.2g}'} Mbit/s{_would_fit(unit, fitting)}"
    )


def _would_fit(unit: str, fitting: list[str]) -> str:
    return f": {' or '.join(fitting)} instead of {unit} would fit" if fitting else ""


def _times_fit(time_s: FloatArray, rate: FloatArray) -> bool:
    steps_s = np.diff(time_s)
    is_sampled = len(steps_s) >= FEWEST_STEPS and np.ptp(rate[1:]) > 0
    return bool(
        not (is_sampled and np.median(steps_s) > LONGEST_STEP_S)
        and time_s[-1] - time_s[0] <= LONGEST_S
        and time_s[-1] <= LATEST_S
    )
