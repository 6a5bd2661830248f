"""Documents as units of text to be translated, and written back in their own format with everything else untouched.

txt, md, srt, vtt, html, docx and odt. Subtitles, docx and odt are changed in place at the level of their text: readers
that build objects from them lose what they do not know (cue settings, styles, fields).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcore.errors import InvalidInput
from mlcore.media import archive
from mlcore.media.archive import Write
from mlcore.media.runs import joined, parted

MAX_BYTES = 5 << 20
MAX_UNITS = 50_000
SUFFIXES = (".txt", ".md", ".srt", ".vtt", ".html", ".htm", ".docx", ".odt")
ALLOWED = ", ".join(SUFFIXES)
_OLE = b"\xd0\xcf\x11\xe0"  # the container of encrypted docx and of the old .doc


@dataclass(frozen=True)
class Document:
    """Its texts in reading order, each with inline markup as tags, and how to write it with other texts."""

    suffix: str
    units: tuple[str, ...]
    write: Write


def suffix_of(name: str, field: str = "document") -> str:
    """The ending that says what a file is; InvalidInput names those that are read."""
    suffix = Path(name.lower()).suffix
    if suffix not in SUFFIXES:
        shown = f"“{suffix}” files" if suffix else "files without an ending"
        raise InvalidInput(field, f"{shown[0].upper()}{shown[1:]} are not read. Send one of: {ALLOWED}.")
    return suffix


def check_head(name: str, head: bytes, field: str = "document") -> None:
    """Refuse a file whose first bytes are not what its name says."""
    suffix = suffix_of(name, field)
    if not head:
        raise InvalidInput(field, "The file is empty.")
    if head.startswith(_OLE):
        raise InvalidInput(field, "The file is encrypted or an old .doc. Save it without a password, as .docx.")
    packed = suffix in (".docx", ".odt")
    if packed != head.startswith(b"PK\x03\x04"):
        raise InvalidInput(field, f"This is no {suffix} file, whatever its name says.")
    if not packed and b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InvalidInput(field, "This is no text file.")


def read(path: Path, field: str = "document") -> Document:
    """Take a document apart; InvalidInput in words for what is broken, encrypted, too large or without any text."""
    suffix = suffix_of(path.name, field)
    data = path.read_bytes()
    if len(data) > MAX_BYTES:
        raise InvalidInput(field, f"The file has {len(data) / 1e6:.1f} MB; at most {MAX_BYTES >> 20} MB are read.")
    check_head(path.name, data[:512], field)
    readers: dict[str, Callable[[bytes, str], tuple[list[str], Write]]] = {
        **{".txt": _read_text, ".md": _read_markdown, ".srt": _read_cues, ".vtt": _read_cues},
        **{".html": _read_html, ".htm": _read_html, ".docx": archive.read_docx, ".odt": archive.read_odt},
    }
    units, write = readers[suffix](data, field)
    if len(units) > MAX_UNITS:
        raise InvalidInput(field, f"The file has {len(units):,} paragraphs; at most {MAX_UNITS:,} are read. Split it.")
    if not any(any(map(str.isalpha, unit)) for unit in units):
        raise InvalidInput(field, "There are no words in this file, so nothing to translate.")
    return Document(suffix, tuple(units), write)


def _decoded(data: bytes, field: str) -> str:
    for encoding in ("utf-16",) if data.startswith((b"\xff\xfe", b"\xfe\xff")) else ("utf-8-sig", "cp1252"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise InvalidInput(field, "The text's encoding cannot be read. Save it as UTF-8.")


def _read_text(data: bytes, field: str) -> tuple[list[str], Write]:
    return [_decoded(data, field)], lambda texts: texts[0].encode()


# code blocks, front matter, tables' rules and link targets of their own stay as they are
_MARKDOWN_KEPT = re.compile(
    r"(\A---\n.*?\n---\n|^(?:```|~~~).*?^(?:```|~~~)[ \t]*$|^\[[^\]\n]+\]:[^\n]*$|^[ |:-]{3,}$"
    r"|(?:^(?: {4}|\t)[^\n]*\n?)+)",
    re.DOTALL | re.MULTILINE,
)


def _read_markdown(data: bytes, field: str) -> tuple[list[str], Write]:
    parts = _MARKDOWN_KEPT.split(_decoded(data, field).replace("\r\n", "\n"))

    def write(texts: Sequence[str]) -> bytes:
        done = iter(texts)
        return "".join(part if place % 2 else next(done) for place, part in enumerate(parts)).encode()

    return parts[::2], write


_TIMES = re.compile(r"\s*(?:\d+:)?\d{1,3}:\d{2}[.,]\d{1,3}\s*-->\s*(?:\d+:)?\d{1,3}:\d{2}[.,]\d{1,3}(?:\s.*)?\Z")


def _read_cues(data: bytes, field: str) -> tuple[list[str], Write]:
    """SubRip and WebVTT: blocks between blank lines, the text of a block under its line of times."""
    blocks = re.split(r"(\n[ \t]*\n\s*)", _decoded(data, field).replace("\r\n", "\n").replace("\r", "\n"))
    places: list[tuple[int, str]] = []  # blocks with text, and what stands above it
    units: list[str] = []
    for place, block in enumerate(blocks):
        lines = block.split("\n")
        times = next((number for number, line in enumerate(lines) if "-->" in line), None)
        if times is None or lines[0].startswith("NOTE"):
            continue
        if not _TIMES.fullmatch(lines[times]):
            raise InvalidInput(field, f"Subtitle {len(places) + 1} has broken times: “{lines[times].strip()[:60]}”.")
        places.append((place, "\n".join(lines[: times + 1])))
        units.append("\n".join(lines[times + 1 :]))
    if not places:
        raise InvalidInput(field, "There are no subtitles in this file: no line with times and “-->”.")
    shapes = [_cue_lines(unit) for unit in units]

    def write(texts: Sequence[str]) -> bytes:
        out = list(blocks)
        for (place, head), text, (_, height) in zip(places, texts, shapes, strict=True):
            out[place] = f"{head}\n{_balanced(text, height)}"
        return "".join(out).encode()

    return [unit for unit, _ in shapes], write


def _cue_lines(text: str) -> tuple[str, int]:
    """A cue's text with one line for each speaker, and over how many lines it went."""
    lines = [line.strip() for line in text.strip("\n").split("\n")]
    if any(line.startswith(("-", "–")) for line in lines[1:]):
        return "\n".join(lines), 0
    return " ".join(lines), len(lines)


def _balanced(text: str, height: int) -> str:
    """A text over so many lines of about the same length; 0 leaves its lines alone."""
    for number in range(height - 1, 0, -1):
        goal = len(text) * number // height
        spaces = [place for place, character in enumerate(text) if character == " "]
        if spaces:
            cut = min(spaces, key=lambda place: abs(place - goal))
            text = f"{text[:cut]}\n{text[cut + 1 :]}"
    return text


_SILENT = ("script", "style", "code", "pre", "kbd", "samp", "svg", "math", "template", "noscript", "textarea")
_BLOCKS = frozenset(
    "address article aside blockquote body caption center dd details div dl dt fieldset figcaption figure footer form "  # noqa: SIM905
    "h1 h2 h3 h4 h5 h6 head header hr html legend li main nav ol option p section select summary table tbody td tfoot "
    "th thead title tr ul br".split()
)


def _read_html(data: bytes, field: str) -> tuple[list[str], Write]:
    from bs4 import BeautifulSoup
    from bs4.element import Comment, NavigableString, PreformattedString, Tag

    soup = BeautifulSoup(_decoded(data, field), "html.parser")
    runs: list[list[Any]] = [[]]  # text nodes between two block borders

    def walk(node: Any) -> None:
        for child in list(node.children):
            if isinstance(child, Tag):
                if child.name in _SILENT or child.get("translate") == "no":
                    continue
                border = child.name in _BLOCKS
                if border:
                    runs.append([])
                walk(child)
                if border:
                    runs.append([])
            elif isinstance(child, NavigableString) and not isinstance(child, Comment | PreformattedString):
                runs[-1].append(child)

    try:
        walk(soup)
    except RecursionError as error:
        raise InvalidInput(field, "The page is nested too deeply to be read.") from error
    kept = [run for run in runs if any(str(node).strip() for node in run)]

    def flat(node: Any) -> str:  # a page's own line breaks mean nothing
        return re.sub(r"\s+", " ", str(node))

    def write(texts: Sequence[str]) -> bytes:
        for run, text in zip(kept, texts, strict=True):
            for node, part in zip(run, parted(text, [flat(node) for node in run]), strict=True):
                node.replace_with(NavigableString(part))
        return str(soup).encode()

    return [joined([flat(node) for node in run]) for run in kept], write
