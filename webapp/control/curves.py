"""Learning curves of a card as SVG, drawn from the card's own tables: a chart and the table that says the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from markdown_it.token import Token

WIDTH, HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 12, 44  # room for the numbers and names of the axes
_HEAD = ("step", "hours")  # what the tables of learning curves begin with
_LARGEST = 1e12  # numbers of a chart
_ALIKE = 1e-5  # numbers that differ by no larger share of themselves
_LINES = 6  # kinds of line that the style sheet knows


def above_table(renderer: Any, tokens: Sequence[Token], place: int, options: Any, env: Any) -> str:
    """Render rule of markdown-it: where a table is a learning curve, its chart comes before it."""
    rows = _cells(tokens, place)
    chart = curve(rows[0], rows[1:]) if rows else ""
    return f"{chart}{renderer.renderToken(tokens, place, options, env)}"


def _cells(tokens: Sequence[Token], place: int) -> list[list[str]]:
    """The rows of the table that opens at `place`, its head first."""
    rows: list[list[str]] = []
    for token in tokens[place:]:
        if token.type == "table_close":
            break
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline" and rows:
            rows[-1].append(token.content)
    return rows


def curve(head: Sequence[str], rows: Sequence[Sequence[str]]) -> SafeString:
    """Each score over hours of training; empty where the table is another kind, or holds fewer than two points."""
    if tuple(head[:2]) != _HEAD or len(head) < 3 or len(rows) < 2:
        return SafeString("")
    try:
        numbers = [[float(cell) for cell in row] for row in rows]
    except ValueError:
        return SafeString("")
    if not all(len(row) == len(head) and all(abs(number) < _LARGEST for number in row) for row in numbers):
        return SafeString("")
    return _drawn([row[1] for row in numbers], [(head[i], [row[i] for row in numbers]) for i in range(2, len(head))])


def _drawn(hours: Sequence[float], series: Sequence[tuple[str, Sequence[float]]]) -> SafeString:
    every = [score for _, scores in series for score in scores]
    across, up = ticks(min(0, *hours), max(hours)), ticks(min(every), max(every))

    def x(hour: float) -> float:
        return round(_LEFT + (hour - across[0]) / (across[-1] - across[0]) * (WIDTH - _LEFT - _RIGHT), 1)

    def y(score: float) -> float:
        return round(HEIGHT - _BOTTOM - (score - up[0]) / (up[-1] - up[0]) * (HEIGHT - _TOP - _BOTTOM), 1)

    floor = HEIGHT - _BOTTOM
    parts = [
        format_html('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>', _LEFT, WIDTH - _RIGHT, y(tick), y(tick))
        + format_html('<text x="{}" y="{}" text-anchor="end">{}</text>', _LEFT - 8, y(tick) + 4, f"{tick:g}")
        for tick in up
    ] + [
        format_html('<text x="{}" y="{}" text-anchor="middle">{}</text>', x(tick), floor + 18, f"{tick:g}")
        for tick in across
    ]
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(format_html('<text x="{}" y="{}" text-anchor="middle">hours of training</text>', middle, HEIGHT - 6))
    for number, scores in enumerate(scores for _, scores in series):
        points = " ".join(f"{x(hour)},{y(score)}" for hour, score in zip(hours, scores, strict=True))
        parts.append(format_html('<polyline class="line-{}" points="{}"/>', number % _LINES + 1, points))
    key = format_html_join(
        "",
        '<li><svg viewBox="0 0 28 8" aria-hidden="true"><line class="line-{}" x2="28" y1="4" y2="4"/></svg> {}</li>',
        ((number % _LINES + 1, name) for number, (name, _) in enumerate(series)),
    )
    said = "Learning curve: " + ", ".join(f"{name} {scores[0]:g} to {scores[-1]:g}" for name, scores in series)
    return format_html(
        '<figure class="curve"><svg viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title>{}</svg>'
        '<ul class="key">{}</ul></figure>',
        WIDTH,
        HEIGHT,
        said,
        said,
        SafeString("".join(parts)),
        key,
    )


def ticks(low: float, high: float) -> list[float]:
    """Some five round numbers, from `low` or below to `high` or above; around the two where they are almost alike."""
    middle = (low + high) / 2
    size = max(1.0, abs(middle))
    if high - low <= _ALIKE * size:
        low, high = middle - size / 20, middle + size / 20
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * next(factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{number * step:.9g}") for number in range(first, last + 1)]
