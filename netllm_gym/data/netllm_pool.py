"""NetLLM's experience pools: pickles, taken apart without unpickling.

NetLLM keeps a pool as one pickled object of `plm_special.data.exp_pool.ExperiencePool` with four
lists of equal length: `states` (6, 6) float32, `actions` (rungs), `rewards`, `dones`. Unpickling
runs whatever the file says. Here its instructions are listed by `pickletools`, which executes
none, and replayed by a small machine that can make numbers, texts, tuples, lists, dicts and numeric
arrays, and knows five names: that class and numpy's `_reconstruct`, `scalar`, `ndarray` and
`dtype`, each with a stand-in of ours. A file that asks for another name is refused with the name.

A pool says nothing of traces, video, policies or seeds; only the ends of episodes are marked.
"""

import math
import pickletools
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netllm_gym.data import abr
from netllm_gym.data.episode import Episode
from netllm_gym.errors import InputError

SERIES = ("states", "actions", "rewards", "dones")
STATE_SHAPE, NUM_RUNGS = (6, 6), 6  # NetLLM's, whatever the video


def read_netllm_pool(path: Path, policy: str) -> list[Episode]:
    """Read NetLLM's pickled pool of ABR episodes.

    Args:
        path: The file, `exp_pool.pkl` in NetLLM.
        policy: What to call whoever acted; the file does not say.

    Returns:
        The episodes in the file's order. Their seeds are their numbers, since the file has none,
        and their cases are empty. What follows the last end is a truncated episode.

    Raises:
        InputError: If the file is no such pool, or asks for a name that is not allowed.
    """
    data = path.read_bytes()
    try:
        series = _series(_replay(data))
    except InputError as error:
        raise InputError(f"{path} must be a pickled pool of NetLLM: {error}") from None
    except Exception as error:  # any bytes may stand there
        reason = str(error) or type(error).__name__
        raise InputError(f"{path} must be a pickled pool of NetLLM: {reason}") from None
    try:
        return _episodes(series, policy)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _episodes(series: dict[str, list[Any]], policy: str) -> list[Episode]:
    ends = [step + 1 for step, done in enumerate(series["dones"]) if done]
    length = len(series["dones"])
    borders = [0, *ends, *([length] if not ends or ends[-1] < length else [])]
    episodes = []
    for number, (begin, end) in enumerate(pairwise(borders)):
        observations = np.stack(series["states"][begin:end])  # (T, 6, 6) float32
        try:
            abr.to_columns(observations)
        except InputError as error:
            raise InputError(f"episode {number}: {error}") from None
        terminated = bool(series["dones"][end - 1])
        episodes.append(
            Episode(
                observations=observations,
                actions=np.array(series["actions"][begin:end], np.int64),
                rewards=np.array(series["rewards"][begin:end], np.float64),
                terminated=terminated,
                truncated=not terminated,
                policy=policy,
                seed=number,
            )
        )
    return episodes


def _series(pool: Any) -> dict[str, list[Any]]:
    """Check the four lists of a pool."""
    if not isinstance(pool, _Pool):
        raise InputError(f"an ExperiencePool must come out of it, got {type(pool).__name__}")
    series = {name: pool.fields.get(name) for name in SERIES}
    lists = [values for values in series.values() if isinstance(values, list)]
    lengths = {len(values) for values in lists}
    if len(lists) < len(SERIES) or len(lengths) != 1 or lengths == {0}:
        raise InputError(f"{', '.join(SERIES)} must be lists of one length above 0")
    rules: dict[str, tuple[Callable[[Any], bool], str]] = {
        "states": (_is_state, f"float32 of shape {STATE_SHAPE}"),
        "actions": (_is_rung, f"whole numbers in 0..{NUM_RUNGS - 1}"),
        "rewards": (_is_reward, "finite numbers"),
        "dones": (lambda value: type(value) is bool, "booleans"),
    }
    plain: dict[str, list[Any]] = {}
    for name, (fits, rule) in rules.items():
        values = [one.values if isinstance(one, _Array) else one for one in series[name] or ()]
        for step, value in enumerate(values):
            if not fits(value):
                got = f"{value!r:.40}"
                if isinstance(value, np.ndarray):
                    got = f"{value.dtype} of {value.shape}"
                raise InputError(f"{name} must be {rule}, got {got} at {step}")
        plain[name] = values
    return plain


def _is_state(value: Any) -> bool:
    is_array = isinstance(value, np.ndarray)
    return is_array and (value.shape, value.dtype) == (STATE_SHAPE, np.float32)


def _is_rung(value: Any) -> bool:
    return type(value) is int and 0 <= value < NUM_RUNGS


def _is_reward(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


# The machine -------------------------------------------------------------------------------------


class _Pool:
    """Stands in for NetLLM's class."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}


class _Name(str):
    """One of the allowed names of a module."""


class _DType:
    """A numeric type: made from its code, told its byte order afterwards."""

    def __init__(self, code: str) -> None:
        self.code, self.order = code, "="

    def numpy(self) -> np.dtype[Any]:
        """Return the type; numpy is never asked for another one than of numbers."""
        if not re.fullmatch(r"[<>=|][biuf]\d", self.order + self.code):
            raise InputError(f"arrays must be of numbers, got {self.order + self.code:.20}")
        return np.dtype(self.order + self.code)


class _Array:
    """An array that is made empty and filled afterwards."""

    def __init__(self) -> None:
        self.values: NDArray[Any] | None = None


_NAMES = {
    ("plm_special.data.exp_pool", "ExperiencePool"): _Name("ExperiencePool"),
    ("numpy", "ndarray"): _Name("ndarray"),
    ("numpy", "dtype"): _Name("dtype"),
    **{
        (module, name): _Name(name)
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        for name in ("_reconstruct", "scalar")
    },
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_CONTAINERS: dict[str, Callable[[], Any]] = {
    **{"EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict}
}
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"),
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


def _replay(data: bytes) -> Any:
    """Return what a pickle would make, out of stand-ins; every other instruction is refused."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for instruction, argument, _ in pickletools.genops(data):
        name = instruction.name
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _CONTAINERS:
            stack.append(_CONTAINERS[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[_typed(argument, int)])
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[_typed(argument, int)] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in _TUPLES:
            stack.append(tuple(_pop(stack, _TUPLES[name])))
        elif name == "TUPLE":
            stack.append(tuple(_pop_to_mark(stack)))
        elif name in ("APPEND", "APPENDS"):
            items = _pop(stack, 1) if name == "APPEND" else _pop_to_mark(stack)
            _typed(stack[-1], list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = _pop(stack, 2) if name == "SETITEM" else _pop_to_mark(stack)
            keys = [_typed(key, str) for key in items[::2]]
            _typed(stack[-1], dict).update(zip(keys, items[1::2], strict=True))
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            module, _, attribute = _typed(argument or "", str).partition(" ")
            if name == "STACK_GLOBAL":
                module, attribute = (_typed(one, str) for one in _pop(stack, 2))
            if (module, attribute) not in _NAMES:
                raise InputError(
                    f"it must ask for no name but {', '.join(sorted({*_NAMES.values()}))}, "
                    f"got {f'{module}.{attribute}'[:80]!r}"
                )
            stack.append(_NAMES[module, attribute])
        elif name in ("REDUCE", "NEWOBJ"):
            made, arguments = _pop(stack, 2)
            stack.append(_make(_typed(made, _Name), _typed(arguments, tuple), name == "NEWOBJ"))
        elif name == "BUILD":
            (state,) = _pop(stack, 1)
            _fill(stack[-1], state)
        elif name == "STOP":
            (made,) = _pop(stack, 1)
            return made
        elif name not in ("PROTO", "FRAME"):
            raise InputError(f"it must hold plain instructions only, got {name}")
    raise InputError("it must end, got no STOP")


def _make(name: _Name, arguments: tuple[Any, ...], is_object: bool) -> Any:
    """Do what the named class or function is asked for."""
    if is_object != (name == "ExperiencePool"):
        raise InputError(f"{name} must be called as numpy and NetLLM do, got something else")
    if name == "ExperiencePool" and not arguments:
        return _Pool()
    if name == "dtype":
        return _DType(_typed(arguments[0], str))
    if name == "scalar":
        dtype, data = arguments
        return np.frombuffer(_typed(data, bytes), _typed(dtype, _DType).numpy(), 1)[0].item()
    if name == "_reconstruct" and arguments == (_NAMES["numpy", "ndarray"], (0,), b"b"):
        return _Array()
    raise InputError(f"{name} must be called as numpy and NetLLM do, got something else")


def _fill(made: Any, state: Any) -> None:
    """Give an object its state."""
    if isinstance(made, _Pool):
        made.fields = _typed(state, dict)
    elif isinstance(made, _DType):
        made.order = _typed(state[1], str)
    elif isinstance(made, _Array):
        _, shape, dtype, by_columns, data = state
        values = np.frombuffer(_typed(data, bytes), _typed(dtype, _DType).numpy())
        made.values = values.reshape(_typed(shape, tuple), order="F" if by_columns else "C")
    else:
        raise InputError(f"a pool or an array must be given a state, got {type(made).__name__}")


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise InputError(f"{kind.__name__.strip('_')} must stand there, got {type(value).__name__}")
    return value


def _pop(stack: list[Any], count: int) -> Sequence[Any]:
    if len(stack) < count or any(one is _MARK for one in stack[-count:]):
        raise InputError(f"{count} values must stand there, got fewer")
    taken = stack[-count:]
    del stack[-count:]
    return taken


def _pop_to_mark(stack: list[Any]) -> Sequence[Any]:
    places = range(len(stack) - 1, -1, -1)
    place = next((place for place in places if stack[place] is _MARK), None)
    if place is None:
        raise InputError("a mark must stand before what is gathered, got none")
    taken = stack[place + 1 :]
    del stack[place:]
    return taken
