"""Fields: the one schema from which forms, API documents and checks all come.

A field is frozen and stateless: `clean(name, value)` returns the value to use or raises InvalidInput with a
sentence for people, `schema()` gives JSON Schema (2020-12).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mlcore.errors import InvalidInput

Scope = Literal["row", "batch"]


@dataclass(frozen=True, kw_only=True)
class Field:
    """What all fields share. Of options: may it differ inside one batch, and is it kept for a person's next time?"""

    title: str = ""
    help: str = ""
    required: bool = True
    default: Any = None
    scope: Scope = "row"
    remember: bool = False

    @property
    def widget(self) -> str:
        """Name of the form control, the field's class in lower case."""
        return type(self).__name__.lower()

    def clean(self, name: str, value: Any) -> Any:
        """The value to use; a missing one (None) becomes the default."""
        if value is None:
            if self.required:
                raise InvalidInput(name, f"“{self.title or name}” is missing.")
            return self.default
        return self.check(name, value)

    def check(self, name: str, value: Any) -> Any:
        """Check a value that is there."""
        raise NotImplementedError

    def parse(self, text: str) -> Any:
        """The value that a form control's text stands for; checked later by `clean`."""
        return text or None

    def show(self, value: Any) -> Any:
        """What the form control holds for a value; the opposite of `parse`."""
        return value

    def schema(self) -> dict[str, Any]:
        """JSON Schema of the value."""
        described = {"title": self.title, "description": self.help}
        found = {key: value for key, value in described.items() if value}
        if not self.required and self.default is not None:
            found["default"] = self.default
        return found


def _bounds(minimum: float | None, maximum: float | None) -> str:
    if minimum is not None and maximum is not None:
        return f"from {minimum:,} to {maximum:,}"
    return f"{minimum:,} or more" if minimum is not None else f"{maximum:,} or less"


@dataclass(frozen=True, kw_only=True)
class Text(Field):
    """Unicode text; `max_length` counts code points."""

    max_length: int = 20_000
    allow_blank: bool = False

    def check(self, name: str, value: Any) -> str:
        """Refuse what is no text, blank, too long, or cannot be stored and shown."""
        if not isinstance(value, str):
            raise InvalidInput(name, f"“{self.title or name}” must be text in quotes, not {kind_of(value)}.")
        if len(value) > self.max_length:
            raise InvalidInput(
                name,
                f"This has {len(value):,} characters; at most {self.max_length:,} are read. "
                "Shorten it or send it in parts.",
            )
        if "\0" in value:
            place = value.index("\0") + 1
            raise InvalidInput(name, f"Character {place:,} is a NUL, which is not text. Remove it.")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise InvalidInput(name, "This holds half of a character (a lone surrogate). Type it again.")
        if not self.allow_blank and not value.strip():
            raise InvalidInput(name, "There is nothing to read yet. Type or paste some text.")
        return value

    def schema(self) -> dict[str, Any]:
        """JSON Schema: a string."""
        found = {**super().schema(), "type": "string", "maxLength": self.max_length}
        return found if self.allow_blank else {**found, "minLength": 1, "pattern": r"\S"}


@dataclass(frozen=True, kw_only=True)
class Number(Field):
    """A finite number within bounds, both included."""

    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None

    @property
    def widget(self) -> str:
        """Whole numbers use the same control."""
        return "number"

    def check(self, name: str, value: Any) -> float:
        """Refuse booleans, texts, NaN, infinities and what is out of bounds."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidInput(name, f"“{self.title or name}” must be a number, not {kind_of(value)}.")
        if isinstance(value, int) and abs(value) > 2**63:
            raise InvalidInput(name, f"“{self.title or name}” is too large a number.")
        if not math.isfinite(value):
            raise InvalidInput(name, f"“{self.title or name}” must be a finite number.")
        low = self.minimum is not None and value < self.minimum
        high = self.maximum is not None and value > self.maximum
        if low or high:
            raise InvalidInput(
                name, f"“{self.title or name}” is {value:,}; it must be {_bounds(self.minimum, self.maximum)}."
            )
        return value

    def parse(self, text: str) -> Any:
        """A number where the text is one, else the text, which `clean` refuses in words."""
        try:
            return float(text) if text else None
        except ValueError:
            return text

    def schema(self) -> dict[str, Any]:
        """JSON Schema: a number."""
        found = {**super().schema(), "type": "number"}
        if self.minimum is not None:
            found["minimum"] = self.minimum
        if self.maximum is not None:
            found["maximum"] = self.maximum
        return found


@dataclass(frozen=True, kw_only=True)
class Integer(Number):
    """A whole number within bounds, both included."""

    def check(self, name: str, value: Any) -> int:
        """As for numbers; 3.0 is taken as 3, 3.5 is refused."""
        number = super().check(name, value)
        if number != int(number):
            raise InvalidInput(name, f"“{self.title or name}” must be a whole number, not {value}.")
        return int(number)

    def parse(self, text: str) -> Any:
        """A whole number as one, so that it is shown again as it was typed."""
        value = super().parse(text)
        return int(value) if isinstance(value, float) and value.is_integer() else value

    def schema(self) -> dict[str, Any]:
        """JSON Schema: an integer."""
        return {**super().schema(), "type": "integer"}


@dataclass(frozen=True, kw_only=True)
class Choice(Field):
    """One of a few names, each with a title for people."""

    choices: Mapping[str, str] = field(default_factory=dict)

    def check(self, name: str, value: Any) -> str:
        """Refuse what is not among the choices, and name them."""
        if not isinstance(value, str) or value not in self.choices:
            shown = repr(value) if isinstance(value, str) and len(value) <= 40 else kind_of(value)
            raise InvalidInput(
                name, f"“{self.title or name}” cannot be {shown}. Choose one of: {', '.join(self.choices)}."
            )
        return value

    def schema(self) -> dict[str, Any]:
        """JSON Schema: an enumeration."""
        return {**super().schema(), "type": "string", "enum": list(self.choices)}


@dataclass(frozen=True, kw_only=True)
class List(Field):
    """A list of values of one kind."""

    of: Field
    min_items: int = 0
    max_items: int | None = None

    def check(self, name: str, value: Any) -> list[Any]:
        """Check the length, then each item under the name `name[index]`."""
        if not isinstance(value, list):
            raise InvalidInput(name, f"“{self.title or name}” must be a list, not {kind_of(value)}.")
        if len(value) < self.min_items or (self.max_items is not None and len(value) > self.max_items):
            allowed = _bounds(self.min_items, self.max_items)
            raise InvalidInput(name, f"“{self.title or name}” has {len(value)} items; allowed: {allowed}.")
        return [self.of.clean(f"{name}[{index}]", item) for index, item in enumerate(value)]

    def parse(self, text: str) -> Any:
        """One item a line."""
        return [line for line in text.splitlines() if line.strip()] or None

    def show(self, value: Any) -> Any:
        """Items as lines; what could not be read stays as it was typed."""
        return "\n".join(str(self.of.show(item)) for item in value) if isinstance(value, list) else value

    def schema(self) -> dict[str, Any]:
        """JSON Schema: an array."""
        found = {**super().schema(), "type": "array", "items": self.of.schema(), "minItems": self.min_items}
        return found if self.max_items is None else {**found, "maxItems": self.max_items}


@dataclass(frozen=True, kw_only=True)
class Record(Field):
    """An object with fields of its own (outputs are made of these)."""

    fields: Mapping[str, Field] = field(default_factory=dict)

    def check(self, name: str, value: Any) -> dict[str, Any]:
        """Check each field under the name `name.key`; keys that are not known are refused."""
        if not isinstance(value, dict):
            raise InvalidInput(name, f"“{self.title or name}” must be an object, not {kind_of(value)}.")
        return clean_fields(self.fields, value, kind="key", prefix=f"{name}.")

    def schema(self) -> dict[str, Any]:
        """JSON Schema: an object that allows no other keys."""
        return {**super().schema(), **object_schema(self.fields)}


InputKind = Literal["input", "option", "key"]


def clean_fields(fields: Mapping[str, Field], values: Any, *, kind: InputKind, prefix: str = "") -> dict[str, Any]:
    """Clean an object field by field; an unknown name is refused, and the known ones are listed."""
    if not isinstance(values, Mapping):
        raise InvalidInput(prefix.rstrip(".") or f"{kind}s", f"This must be an object, not {kind_of(values)}.")
    for name in values:
        if name not in fields:
            known = f"Known: {', '.join(fields)}." if fields else "There are none."
            raise InvalidInput(prefix + readable(name), f"There is no {kind} of this name. {known}")
    return {name: spec.clean(prefix + name, values.get(name)) for name, spec in fields.items()}


def readable(name: Any) -> str:
    """A name that somebody sent, short and as text that can be written anywhere."""
    return str(name)[:60].replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def object_schema(fields: Mapping[str, Field]) -> dict[str, Any]:
    """JSON Schema of an object with these fields."""
    required = [name for name, spec in fields.items() if spec.required]
    found: dict[str, Any] = {
        "type": "object",
        "properties": {name: spec.schema() for name, spec in fields.items()},
        "additionalProperties": False,
    }
    return {**found, "required": required} if required else found


def kind_of(value: Any) -> str:
    names = {bool: "true or false", str: "text", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), "null" if value is None else type(value).__name__)
