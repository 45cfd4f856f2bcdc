"""Read pickles that other programs wrote, without unpickling them.

Unpickling can run any code that the file names. Here `pickletools` lists the instructions of the
file without executing them, and a small interpreter follows those that make numbers, texts, tuples,
lists, dicts and NumPy arrays. The reader of a format says which names its files may refer to. A
file that refers to another name is refused, and the error says which.

A `pickle.Unpickler` with an allow-list would not be enough: a file of nine bytes can make it
allocate gigabytes, because it reserves a table as large as the file says.
"""

import pickletools
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netllm_gym.errors import InputError

_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")  # before numpy 2, and since
ARRAY_NAMES = (
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((module, "_reconstruct") for module in _MODULES),
)
SCALAR_NAMES = tuple((module, "scalar") for module in _MODULES)


@dataclass(eq=False)
class Instance:
    """An object of a class that the reader allows, as plain data: its class's name, its fields."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Array:
    """A NumPy array, which a pickle makes empty and fills with numbers, or a list of objects."""

    values: NDArray[Any] | list[Any] | None = None


class _Name(str):
    """One of the allowed names of a module."""


@dataclass(eq=False)
class _DType:
    """A NumPy type, which a pickle makes from a code and gives its byte order afterwards."""

    code: str
    order: str = "="

    def numpy(self) -> np.dtype[Any]:
        """Return the type, which must be a type of numbers."""
        if not re.fullmatch(r"[<>=|][biuf]\d", self.order + self.code):
            raise InputError(f"arrays must be of numbers, got {self.order + self.code:.20}")
        return np.dtype(self.order + self.code)


_MARK = object()
_NUMPY = {attribute for _, attribute in (*ARRAY_NAMES, *SCALAR_NAMES)}


def replay(data: bytes, names: Collection[tuple[str, str]]) -> Any:
    """Return the content of a pickle, with `Instance` and `Array` in place of objects and arrays.

    Protocols 2, 3 and 4 are known, which Python 2.3 to 3.13 write by default. The modules and names
    that it may refer to are `ARRAY_NAMES`, `SCALAR_NAMES` and classes.

    Raises:
        InputError: If it has another instruction or refers to another name.
        Exception: Of any kind, if the bytes are not a pickle.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for instruction, argument, _ in pickletools.genops(data):
        match instruction.name:
            case "PROTO" | "FRAME":
                pass
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "SHORT_BINSTRING":
                stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINBYTES" | "SHORT_BINBYTES":
                stack.append(argument)
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE" as name:
                stack.append(name == "NEWTRUE")
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3" as name:
                stack.append(tuple(_pop(stack, int(name[-1]))))
            case "TUPLE":
                stack.append(tuple(_pop_to_mark(stack)))
            case "MARK":
                stack.append(_MARK)
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[_typed(argument, int)])
            case "BINPUT" | "LONG_BINPUT":
                memo[_typed(argument, int)] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "APPEND" | "APPENDS" as name:
                items = _pop(stack, 1) if name == "APPEND" else _pop_to_mark(stack)
                _typed(stack[-1], list).extend(items)
            case "SETITEM" | "SETITEMS" as name:
                items = _pop(stack, 2) if name == "SETITEM" else _pop_to_mark(stack)
                keys = [_typed(key, str, int) for key in items[::2]]
                _typed(stack[-1], dict).update(zip(keys, items[1::2], strict=True))
            case "GLOBAL":
                stack.append(_allowed(names, *_typed(argument, str).split(" ", 1)))
            case "STACK_GLOBAL":
                stack.append(_allowed(names, *(_typed(one, str) for one in _pop(stack, 2))))
            case "REDUCE" | "NEWOBJ" as name:
                made, arguments = _pop(stack, 2)
                stack.append(_make(_typed(made, _Name), _typed(arguments, tuple), name == "NEWOBJ"))
            case "BUILD":
                (state,) = _pop(stack, 1)
                _fill(stack[-1], state)
            case "STOP":
                return _pop(stack, 1)[0]
            case other:
                raise InputError(f"it must hold plain instructions only, got {other}")
    raise InputError("it must end, got no STOP")


def _allowed(names: Collection[tuple[str, str]], module: str, attribute: str) -> _Name:
    if (module, attribute) not in names:
        allowed = ", ".join(sorted({attribute for _, attribute in names}))
        raise InputError(
            f"it must ask for no name but {allowed}, got {f'{module}.{attribute}'[:80]!r}"
        )
    return _Name(attribute)


def _make(name: _Name, arguments: tuple[Any, ...], is_object: bool) -> Any:
    """Return the result of calling the named class or function."""
    if is_object and name not in _NUMPY and not arguments:
        return Instance(str(name))
    if not is_object and name == "dtype":
        return _DType(_typed(arguments[0], str))
    if not is_object and name == "scalar":
        dtype, data = arguments
        return np.frombuffer(_typed(data, bytes), _typed(dtype, _DType).numpy(), 1)[0].item()
    if not is_object and name == "_reconstruct":
        of, shape, code = arguments
        if type(of) is _Name and of == "ndarray" and shape == (0,) and code in ("b", b"b"):
            return Array()
    raise InputError(f"{name} must be called as its own writer does, got something else")


def _fill(made: Any, state: Any) -> None:
    """Set the state of an object that was made before."""
    if isinstance(made, Instance):
        made.fields = _typed(state, dict)
    elif isinstance(made, _DType):
        made.order = _typed(state[1], str)
    elif isinstance(made, Array):
        _, shape, dtype, by_columns, data = state
        if _typed(dtype, _DType).code in ("O", "O8"):
            made.values = _typed(data, list)
            return
        values = np.frombuffer(_typed(data, bytes), dtype.numpy())
        made.values = values.reshape(_typed(shape, tuple), order="F" if by_columns else "C")
    else:
        raise InputError(f"no {type(made).__name__} must be given a state, got one")


def _typed(value: Any, *kinds: type) -> Any:
    if type(value) not in kinds:
        kind = " or ".join(kind.__name__.strip("_") for kind in kinds)
        raise InputError(f"{kind} must stand there, got {type(value).__name__}")
    return value


def _pop(stack: list[Any], count: int) -> Sequence[Any]:
    if len(stack) < count or any(one is _MARK for one in stack[-count:]):
        raise InputError(f"{count} values must stand there, got fewer")
    taken = stack[-count:]
    del stack[-count:]
    return taken


def _pop_to_mark(stack: list[Any]) -> Sequence[Any]:
    for place in range(len(stack) - 1, -1, -1):
        if stack[place] is _MARK:
            taken = stack[place + 1 :]
            del stack[place:]
            return taken
    raise InputError("a mark must stand before what is gathered, got none")
