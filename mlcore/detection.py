"""The language of a whole text: sure, or asked for in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlcore import languages, passages
from mlcore.errors import InvalidInput

_MIXED = 0.3  # share of a text's letters in sentences of another language, from which on it is mixed
_READ = 4_000  # characters


def beginning(units: Sequence[str]) -> str:
    """The beginning of a text or document, enough to tell its language."""
    found, length = [], 0
    for unit in units:
        found.append(unit[: _READ - length])
        length += len(unit)
        if length >= _READ:
            break
    return "\n".join(found)


def of_text(text: str) -> dict[str, Any]:
    """The language of a text, each sentence looked at; InvalidInput where that is not sure."""
    whole = languages.detect(text)
    known = ", ".join(languages.NAMES.values())
    if whole.foreign:
        raise InvalidInput("source", f"This looks like {whole.foreign}. The model reads {known}.")
    if not whole.code:
        raise InvalidInput("source", "Not sure which language this is: too short or mixed. Choose it under “From”.")
    other: dict[str, int] = {}
    for segment in passages.split(text, whole.code).segments:
        found = languages.detect(segment.text)
        if found.code != whole.code and (found.code or found.foreign) and found.confidence >= 0.9:
            other[found.code or found.foreign] = other.get(found.code or found.foreign, 0) + len(segment.text)
    if sum(other.values()) >= _MIXED * len(text):
        raise InvalidInput("source", "This text mixes languages. Choose under “From” which one is to be translated.")
    return {"code": whole.code, "confidence": round(whole.confidence, 3)}
