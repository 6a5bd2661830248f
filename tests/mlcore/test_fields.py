"""Fields refuse in words, at their name."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mlcore.errors import InvalidInput
from mlcore.fields import Choice, Field, Integer, List, Number, Record, Text, clean_fields

CASES: list[tuple[Field, Any, str]] = [
    (Text(), 3, "must be text"),
    (Text(), "", "nothing to read"),
    (Text(), " \n\t", "nothing to read"),
    (Text(max_length=3), "abcd", "4 characters; at most 3"),
    (Text(), "a\0b", "Character 2 is a NUL"),
    (Text(), "a\ud800", "surrogate"),
    (Text(), None, "missing"),
    (Number(maximum=1), math.nan, "finite"),
    (Number(maximum=1), math.inf, "finite"),
    (Number(minimum=0, maximum=1), 1.5, "from 0 to 1"),
    (Number(), True, "must be a number"),
    (Number(), "0.7", "must be a number"),
    (Integer(), 3.5, "whole number"),
    (Integer(minimum=1), 0, "1 or more"),
    (Choice(choices={"a": "A", "b": "B"}), "c", "a, b"),
    (Choice(choices={"a": "A"}), ["a"], "a list"),
    (List(of=Integer(), max_items=2), [1, 2, 3], "has 3 items"),
    (List(of=Integer()), "1", "must be a list"),
]


@pytest.mark.parametrize(("field", "value", "words"), CASES)
def test_what_is_wrong_is_said(field: Field, value: Any, words: str) -> None:
    with pytest.raises(InvalidInput) as error:
        field.clean("x", value)
    assert words in error.value.message
    assert error.value.field == "x"


def test_an_item_of_a_list_is_named_by_its_place() -> None:
    with pytest.raises(InvalidInput) as error:
        List(of=Record(fields={"n": Integer()})).clean("rows", [{"n": 1}, {"n": "x"}])
    assert error.value.field == "rows[1].n"


def test_defaults_are_filled_in() -> None:
    assert clean_fields({"k": Integer(required=False, default=3)}, {}, kind="option") == {"k": 3}


def test_emoji_and_right_to_left_are_text() -> None:
    assert Text().clean("x", "🙂 שלום") == "🙂 שלום"
