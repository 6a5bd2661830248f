"""SubRip and WebVTT, changed in place: cue settings, styles and notes stay as they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from mlcore.errors import InvalidInput

_TIMES = re.compile(r"\s*(?:\d+:)?\d{1,3}:\d{2}[.,]\d{1,3}\s*-->\s*(?:\d+:)?\d{1,3}:\d{2}[.,]\d{1,3}(?:\s.*)?\Z")
_TALLEST = 8  # lines; where blank lines were lost, a whole film may look like one cue
_NOTE = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s|\Z)")  # blocks of WebVTT that nobody sees


def read(text: str, field: str) -> tuple[list[str], Callable[[Sequence[str]], str]]:
    """The text under each line of times, up to a blank line or the next cue, and a function that puts others there.

    Text behind a blank line belongs to a SubRip cue too, as players have it; in WebVTT such blocks are none of a cue.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    spans: list[tuple[int, int]] = []  # of lines with text
    is_webvtt = next((line for line in lines if line.strip()), "").startswith("WEBVTT")
    place, cues, note = 0, 0, False
    while place < len(lines):
        line = lines[place]
        note = (note or (is_webvtt and bool(_NOTE.match(line)))) and bool(line.strip())
        if _looks_timed(line) and not note:
            cues += 1
            place += 1
            if not _TIMES.fullmatch(line):
                raise InvalidInput(field, f"Subtitle {cues} has broken times: “{line.strip()[:60]}”.")
        elif is_webvtt or note or not cues or not line.strip() or _begins_cue(lines, place):
            place += 1
            continue
        start = place
        while place < len(lines) and lines[place].strip() and not _begins_cue(lines, place):
            place += 1
        spans.append((start, place))
    if not cues:
        raise InvalidInput(field, "There are no subtitles in this file: no line with times and “-->”.")
    shapes = [_cue_lines(lines[start:end]) for start, end in spans]

    def write(texts: Sequence[str]) -> str:
        out, at = [], 0
        for (start, end), words, (_, height) in zip(spans, texts, shapes, strict=True):
            out += lines[at:start]
            out += _balanced(words, height).split("\n") if end > start else []
            at = end
        return "\n".join(out + lines[at:])

    return [unit for unit, _ in shapes], write


def _looks_timed(line: str) -> bool:
    """Whether a line is meant as the times of a cue; an arrow alone is text."""
    return "-->" in line and bool(re.search(r"\d\s*[:.,]\s*\d", line))


def _begins_cue(lines: Sequence[str], place: int) -> bool:
    """Whether a line is the times of a cue, or the number or name above them."""
    if _looks_timed(lines[place]):
        return True
    is_number = lines[place].strip("\ufeff \t").isdecimal()
    after = place + 1
    while is_number and after < len(lines) and not lines[after].strip():  # a blank line between number and times
        after += 1
    is_named = is_number or place == 0 or not lines[place - 1].strip()
    return is_named and after < len(lines) and bool(_TIMES.fullmatch(lines[after]))


def _cue_lines(lines: Sequence[str]) -> tuple[str, int]:
    """A cue's text with one line for each speaker, and over how many lines it went; what is no cue keeps its lines."""
    lines = [line.strip() for line in lines]
    if len(lines) > _TALLEST or any(line.startswith(("-", "–")) for line in lines[1:]):
        return "\n".join(lines), 0
    return " ".join(lines), len(lines)


def _balanced(text: str, height: int) -> str:
    """A text over so many lines of about the same length; 0 leaves its lines alone."""
    # not inside a tag: <font color="red">
    spaces = [match.start() for match in re.finditer(r"<[^<>]*>| ", text) if match[0] == " "]
    for number in range(height - 1, 0, -1):
        goal = len(text) * number // height
        if spaces:
            cut = min(spaces, key=lambda place: abs(place - goal))
            spaces.remove(cut)
            text = f"{text[:cut]}\n{text[cut + 1 :]}"
    return text
