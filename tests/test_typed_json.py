"""JSON values become values of annotated types, or one sentence says which place is wrong."""

import json
import math
from dataclasses import dataclass, field, make_dataclass
from typing import Annotated, Literal

import numpy as np
import pytest

from netllm_gym.configs import check
from netllm_gym.errors import InputError
from netllm_gym.typed_json import Line, Name, Rule, checked, in_range, read_checked


@dataclass(frozen=True)
class Inner:
    size: int = 1
    names: str | tuple[str, ...] = ()

    def __post_init__(self):
        check(self.size >= 1, "size", "be at least 1", self.size)


@dataclass(frozen=True)
class Outer:
    name: Name
    share: Annotated[float, in_range(0, 1)] = 0.5
    clip: tuple[float, float] | None = None
    kind: Literal["a", "b"] = "a"
    flag: bool = False
    inner: Inner = field(default_factory=Inner)
    many: list[Inner] = field(default_factory=list)
    texts: dict[str, Line] = field(default_factory=dict)
    odd: Annotated[int, Rule(lambda value: value % 2 == 1, "be odd")] = 1


def test_values_come_back_as_the_types_say():
    values = {"name": "x", "share": 1, "clip": [0, 2.5], "many": [{"names": ["a", "b"]}]}
    found = checked(Outer, values)
    assert found == Outer("x", 1.0, (0.0, 2.5), many=[Inner(1, ("a", "b"))])
    assert isinstance(found.share, float)
    assert isinstance(found.many[0], Inner)
    assert checked(Outer, {"name": "x", "more": 1}, ignore_unknown=True) == Outer("x")
    assert checked(int | None, None) is None
    assert checked(tuple[int, ...], [1, 2]) == (1, 2)


def test_floats_come_back_to_the_bit():
    bits = np.random.default_rng(0).integers(0, 2**64, 20_000, np.uint64)
    values = bits.view(np.float64)
    values = values[np.isfinite(values)].tolist()
    assert checked(list[float], values) == values


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (5, "Outer must be an object, got 5"),
        ([], "Outer must be an object, got []"),
        ({}, "Outer must have name, got []"),
        ({"inner": {"depth": 1}, "name": "x"}, "inner must have no unknown field, got 'depth'"),
        ({"name": "x", "depth": 1}, "Outer must have no unknown field, got 'depth'"),
        ({"name": " "}, "name must be a name, got ' '"),
        ({"name": "a\nb"}, "name must be text of one line, got 'a\\nb'"),
        ({"name": 3}, "name must be a valid string, got 3"),
        ({"name": "x", "share": True}, "share must be a valid number, got True"),
        ({"name": "x", "share": "0.5"}, "share must be a valid number, got '0.5'"),
        ({"name": "x", "share": math.nan}, "share must be a finite number, got nan"),
        ({"name": "x", "share": -math.inf}, "share must be a finite number, got -inf"),
        ({"name": "x", "share": 1.5}, "share must be in 0..1, got 1.5"),
        ({"name": "x", "odd": 2}, "odd must be odd, got 2"),
        ({"name": "x", "odd": 1.0}, "odd must be a valid integer, got 1.0"),
        ({"name": "x", "odd": False}, "odd must be a valid integer, got False"),
        ({"name": "x", "flag": 1}, "flag must be a valid boolean, got 1"),
        ({"name": "x", "kind": "c"}, "kind must be 'a' or 'b', got 'c'"),
        ({"name": "x", "clip": [1.0]}, "clip must have 2 values or more, got [1.0]"),
        ({"name": "x", "clip": [1, 2, 3]}, "clip must have at most 2 items"),
        ({"name": "x", "inner": {"size": 0}}, "inner.size must be at least 1, got 0"),
        ({"name": "x", "inner": {"names": 5}}, "inner.names must be a valid string, got 5"),
        ({"name": "x", "many": [{}, {"size": "1"}]}, "many[1].size must be a valid integer"),
        ({"name": "x", "texts": {"a b": 1}}, "texts['a b'] must be a valid string, got 1"),
        ({"name": "x", "many": {"1": 2}}, "many must be a valid array, got {'1': 2}"),
        ({"name": "\ud800"}, "Outer must be JSON values, got 'utf-8' codec"),
        ({"name": {1, 2}}, "Outer must be JSON values, got Object of type set"),
        ({"name": list(range(100))}, "name must be a valid string, got [0, 1, 2, 3"),
    ],
)
def test_a_wrong_place_is_named_with_its_rule_and_value(values, sentence):
    with pytest.raises(InputError) as refused:
        checked(Outer, values)
    assert str(refused.value).startswith(sentence)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 200


@dataclass(frozen=True)
class Two:
    one: int = 1
    two: int = 2


Many = make_dataclass("Many", [(f"field_{number}", int, 0) for number in range(20)])


def test_fields_that_there_may_be_are_named_or_the_nearest_of_many():
    for kind, unknown, sentence in (
        (Two, "three", "the pair must have no unknown field, got 'three'; it may have one, two"),
        (Many, "felt_7", "must have no unknown field, got 'felt_7'; did you mean field_7?"),
        (Many, "x", "the pair must have no unknown field, got 'x'"),
    ):
        with pytest.raises(InputError) as refused:
            checked(kind, {unknown: 1}, "the pair")
        assert str(refused.value).endswith(sentence)


def test_the_file_is_named(tmp_path):
    path = tmp_path / "outer.json"
    for text, sentence in (
        ("{", f"{path} must be JSON, got "),
        ("[" * 100_000, f"{path} must be JSON, got "),
        ("[]", f"{path}: the thing must be an object, got []"),
        (json.dumps({"name": "x", "odd": 4}), f"{path}: odd must be odd, got 4"),
        ('{"name": "x", "share": 1e999}', f"{path}: share must be a finite number, got inf"),
    ):
        path.write_text(text)
        with pytest.raises(InputError) as refused:
            read_checked(path, Outer, "the thing")
        assert str(refused.value).startswith(sentence)
