"""A paragraph of several pieces that differ in their looks: one text with tags for the translator, and back."""

from __future__ import annotations

import re
from collections.abc import Sequence

_TAG = re.compile(r"</?g\d+>")
_MOST_TAGGED = 8  # pieces of one paragraph that differ in their looks; of more all become like the longest


def _tagged(parts: Sequence[str]) -> list[int]:
    """Pieces that stand between tags: every other one, such that the longest is not among them."""
    real = [place for place, part in enumerate(parts) if part.strip()]
    if len(real) < 2 or any(map(_TAG.search, parts)):  # the text's own look like ours
        return []
    longest = max(range(len(real)), key=lambda rank: len(parts[real[rank]]))
    found = [place for rank, place in enumerate(real) if rank % 2 != longest % 2]
    return found if len(found) <= _MOST_TAGGED else []


def joined(parts: Sequence[str]) -> str:
    """The text of a paragraph of several pieces, every other one as <g1>...</g1>; blank pieces are part of the text."""
    tagged = _tagged(parts)
    return "".join(f"<g{place}>{part}</g{place}>" if place in tagged else part for place, part in enumerate(parts))


def parted(text: str, parts: Sequence[str]) -> list[str]:
    """A translation cut at its tags into the pieces that the paragraph had.

    Where tags are broken or in another order than the pieces, whose places are fixed, the longest piece gets it all.
    """
    real = [place for place, part in enumerate(parts) if part.strip()]
    if len(real) == 1:
        return [text if place == real[0] else "" for place in range(len(parts))]
    return _by_tags(text, parts, real) or _all_in_one(text, parts)


def _by_tags(text: str, parts: Sequence[str], real: Sequence[int]) -> list[str]:
    """The pieces, or nothing where the tags do not fit."""
    tagged = _tagged(parts)
    tags, cuts = _TAG.findall(text), _TAG.split(text)  # outside, inside, outside, ...
    if not tagged or tags != [f"<{end}g{place}>" for place in tagged for end in ("", "/")]:
        return []
    out = [""] * len(parts)
    for place, inside in zip(tagged, cuts[1::2], strict=True):
        out[place] = inside
    borders = [-1, *tagged, len(parts)]
    for rank, outside in enumerate(cuts[::2]):
        between = [place for place in real if borders[rank] < place < borders[rank + 1]]
        if between:
            out[between[0]] = outside
        elif outside.strip():
            return []
        elif rank:  # white space alone rides with its neighbour
            out[borders[rank]] += outside
        else:
            out[borders[1]] = outside + out[borders[1]]
    return out


def _all_in_one(text: str, parts: Sequence[str]) -> list[str]:
    longest = max(range(len(parts)), key=lambda place: len(parts[place].strip()))
    whole = _TAG.sub("", text) if _tagged(parts) else text
    return [whole if place == longest else "" for place in range(len(parts))]
