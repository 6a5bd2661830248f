"""Cards and results of operations as HTML; whatever comes from a bundle or a job is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from markdown_it import MarkdownIt

from webapp.control import curves

# no HTML of the card's own, no images from elsewhere; links that could run a script are left as text by the library
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
_MARKDOWN.add_render_rule("table_open", curves.above_table)


def card(text: str) -> SafeString:
    """A bundle's card, Markdown; its learning curves are drawn, too."""
    return written(SafeString(_MARKDOWN.render(text)))


def written(part: SafeString) -> SafeString:
    """A table or the like, as running text looks."""
    return format_html('<div class="written">{}</div>', part)


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> SafeString:
    """A table; every cell is escaped."""
    return format_html(
        "<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>",
        format_html_join("", "<th>{}</th>", ((cell,) for cell in head)),
        format_html_join("", "<tr>{}</tr>", ((format_html_join("", "<td>{}</td>", ((c,) for c in r)),) for r in rows)),
    )


def result(found: Mapping[str, Any]) -> SafeString:
    """What an operation found: counts, scores side by side, and the answers that differ, worst first."""
    sides: Sequence[Mapping[str, Any]] = found.get("versions") or [found]
    if isinstance(sides, Mapping):  # as it was stored before the order was kept
        sides = [{"version": name, **side} for name, side in sides.items()]
        found = {**found, "versions": sides}
    parts = [table(["", ""], _counts(found))]
    names = list(dict.fromkeys(name for side in sides for name in side.get("scores", {})))
    rows: list[list[Any]] = [[name, *(_number(side["scores"].get(name)) for side in sides)] for name in names]
    if found.get("versions"):
        rows += [
            ["milliseconds an item (median)", *(side["latency_ms"] for side in sides)],
            ["errors", *(side["errors"] for side in sides)],
        ]
    if rows:
        parts.append(table(["score", *(side.get("version", "value") for side in sides)], rows))
    if differing := found.get("differences"):
        after, before = (
            [side["version"] for side in sides] if found.get("versions") else ("answered now", "answered then")
        )
        parts.append(
            table(
                ["asked", before, after, "alike"],
                [[row["asked"], row["then"], row["now"], f"{row['alike']:.2f}"] for row in differing],
            )
        )
    return written(format_html_join("", "{}", ((part,) for part in parts)))


def _counts(found: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    words = {"items": "items", "examples": "examples answered as stored", "errors": "errors"}
    for name, said in words.items():
        if name in found:
            yield said, f"{found[name]:,}"
    if "agreement" in found:
        yield "agreement", f"{found['agreement']:.1%}"
    latency = found.get("latency_ms")
    if isinstance(latency, Mapping):
        then = "unknown" if latency["then"] is None else latency["then"]
        yield "milliseconds an item (median), then and now", f"{then} and {latency['now']}"
    elif latency is not None:
        yield "milliseconds an item (median)", latency


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else ""
