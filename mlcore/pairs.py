"""The field of pairs of texts, as a glossary is one."""

from __future__ import annotations

import sys
import unicodedata
from dataclasses import dataclass
from typing import Any

from mlcore.errors import InvalidInput
from mlcore.fields import Field, Text, kind_of

_BREAKS = frozenset({"Cc", "Zl", "Zp"})  # control characters, ends of lines and paragraphs


@dataclass(frozen=True, kw_only=True)
class Pairs(Field):
    """Pairs of short texts, as a glossary's terms and what they become."""

    max_items: int = 100
    max_length: int = 100  # characters of each side

    def check(self, name: str, value: Any) -> list[list[str]]:
        """Refuse what is no list of pairs of texts, and terms that come twice."""
        if not isinstance(value, list | tuple):
            raise InvalidInput(name, f"“{self.title or name}” must be a list of pairs, not {kind_of(value)}.")
        if len(value) > self.max_items:
            raise InvalidInput(name, f"“{self.title or name}” has {len(value):,} pairs; at most {self.max_items:,}.")
        side = Text(title=self.title, max_length=sys.maxsize, allow_blank=True)
        found: dict[str, list[str]] = {}
        for place, pair in enumerate(value):
            here = f"{name}[{place}]"
            if not isinstance(pair, list | tuple) or len(pair) != 2:
                raise InvalidInput(here, "A pair is a list of two texts: the term, and what it becomes.")
            term, wanted = (side.check(here, part).strip() for part in pair)
            if not term or not wanted or max(len(term), len(wanted)) > self.max_length:
                raise InvalidInput(here, f"Each side of a pair has 1 to {self.max_length} characters.")
            if any(unicodedata.category(character) in _BREAKS for character in term + wanted):
                raise InvalidInput(
                    here, "A pair holds a line break, a tab or another control character. Type it again."
                )
            if found.setdefault(term.casefold(), [term, wanted])[1] != wanted:
                raise InvalidInput(here, f"“{term}” stands here twice, with different translations.")
        return list(found.values())

    def parse(self, text: str) -> Any:
        """Lines `term = translation`; a term alone stays as it is. Spaces tell the sign from one of the term's own."""
        lines = [line for line in text.splitlines() if line.strip()]
        parts = [[part.strip() for part in line.split(" = " if " = " in line else "=", 1)] for line in lines]
        return [[pair[0], pair[1] if len(pair) == 2 and pair[1] else pair[0]] for pair in parts] or None

    def show(self, value: Any) -> Any:
        """Pairs as lines; what could not be read stays as it was typed."""
        if not isinstance(value, list):
            return value
        return "\n".join(
            pair[0] if pair[0] == pair[1] and "=" not in pair[0] else f"{pair[0]} = {pair[1]}" for pair in value
        )

    def schema(self) -> dict[str, Any]:
        """JSON Schema: an array of arrays of two strings."""
        side = {"type": "string", "minLength": 1, "maxLength": self.max_length}
        pair = {"type": "array", "items": side, "minItems": 2, "maxItems": 2}
        return {**super().schema(), "type": "array", "items": pair, "maxItems": self.max_items}
