"""Documents as units of text to be translated, and written back in their own format with everything else untouched.

txt, md, srt, vtt, html, docx and odt. Subtitles, docx and odt are changed in place at the level of their text: readers
that build objects from them lose what they do not know (cue settings, styles, fields).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcore.errors import InvalidInput
from mlcore.fields import readable
from mlcore.media import archive, subtitles
from mlcore.media.archive import Write
from mlcore.media.runs import joined, parted

MAX_BYTES = 5 << 20
MAX_UNITS = 50_000
MAX_LINES = 200_000  # of a text
MAX_TAGS = 300_000  # of a page: each takes a kilobyte
SUFFIXES = (".txt", ".md", ".srt", ".vtt", ".html", ".htm", ".docx", ".odt")
ALLOWED = ", ".join(SUFFIXES)
_OLE = b"\xd0\xcf\x11\xe0"  # the container of encrypted docx and of the old .doc


@dataclass(frozen=True)
class Document:
    """Its texts in reading order, each with inline markup as tags, and how to write it with other texts."""

    units: tuple[str, ...]
    write: Write


def suffix_of(name: str, field: str = "document") -> str:
    """The ending that says what a file is; InvalidInput names those that are read."""
    suffix = Path(name.lower()).suffix
    if suffix not in SUFFIXES:
        shown = f"“{readable(suffix)}” files" if suffix else "files without an ending"
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
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise InvalidInput(field, "There is no such file.") from error
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
    return Document(tuple(units), write)


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
    return [_limited(_decoded(data, field), field)], lambda texts: texts[0].encode()


def _limited(text: str, field: str) -> str:
    """A text of not too many lines."""
    if (lines := text.count("\n") + 1) > MAX_LINES:
        raise InvalidInput(field, f"The file has {lines:,} lines; at most {MAX_LINES:,} are read. Split it.")
    return text


_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_RULES = re.compile(r"(?: {0,3}\[[^\]\n]+\]:.*|[ |:+-]{3,})\Z")  # link targets, rules of tables
_ITEM = re.compile(r"\s*(?:[-*+]|\d{1,3}[.)])\s")


def _read_markdown(data: bytes, field: str) -> tuple[list[str], Write]:
    """Text between what is kept: front matter, code blocks, link targets, rules and borders of tables."""
    text = _limited(_decoded(data, field), field)
    lines = text.replace("\r\n", "\n").splitlines(keepends=True)
    bare = [line.rstrip("\n") for line in lines]
    tables = _table_lines(bare)
    pieces: list[list[str]] = [[]]  # texts at even places, what is kept at odd ones

    def put(piece: str, *, keep: bool) -> None:
        if piece and keep != (len(pieces) % 2 == 0):
            pieces.append([])
        pieces[-1].append(piece)

    for number, (line, keep) in enumerate(zip(lines, _kept_lines(bare), strict=True)):
        if number in tables and not keep:
            for place, piece in enumerate(_BORDER.split(bare[number])):
                body = piece.strip()
                lead = piece[: len(piece) - len(piece.lstrip())]
                put(lead, keep=True)
                put(body, keep=bool(place % 2))
                put(piece[len(lead) + len(body) :], keep=True)
            put(line[len(bare[number]) :], keep=True)
        else:
            put(line, keep=keep)
    parts = list(map("".join, pieces))

    def write(texts: Sequence[str]) -> bytes:
        done = iter(texts)
        whole = "".join(part if place % 2 else next(done) for place, part in enumerate(parts))
        return _with_ends_of(text, whole).encode()

    return parts[::2], write


def _with_ends_of(text: str, changed: str) -> str:
    """A text with the line ends of another."""
    return changed.replace("\n", "\r\n") if "\r\n" in text else changed


_BORDER = re.compile(r"((?<!\\)\|)")


def _table_lines(lines: Sequence[str]) -> set[int]:
    """The rows of tables: the line above a rule such as |---|---|, and those below it."""
    found: set[int] = set()
    for number, line in enumerate(lines):
        if number in found:  # each table is walked through once
            continue
        if number and "|" in line and "-" in line and not line.strip(" |:-") and "|" in lines[number - 1]:
            found.add(number - 1)
            rows = itertools.takewhile(lambda place: "|" in lines[place], range(number + 1, len(lines)))
            found.update(rows)
    return found


def _kept_lines(lines: Sequence[str]) -> list[bool]:
    """For each line whether it stays as it is."""
    kept: list[bool] = []
    fence, in_list, blank, front = "", False, True, _front_matter(lines)
    for number, line in enumerate(lines):
        opened = _FENCE.match(line)
        if number < front:
            kept.append(True)
        elif fence:
            kept.append(True)
            if opened and opened[1].startswith(fence) and not line.strip(" `~"):
                fence = ""
        elif opened:
            kept.append(True)
            fence = opened[1]
        else:
            in_list = bool(_ITEM.match(line)) or (in_list and (not line.strip() or line.startswith((" ", "\t"))))
            indented = line.startswith(("    ", "\t")) and not in_list and (blank or (bool(kept) and kept[-1]))
            kept.append(bool(line.strip()) and (indented or bool(_RULES.match(line))))
        blank = not line.strip()
    return kept


def _front_matter(lines: Sequence[str]) -> int:
    """How many lines a head of YAML or TOML has; a rule at the beginning is none."""
    ends = {"---": ("---", "..."), "+++": ("+++",)}.get(lines[0], ()) if lines else ()
    if not ends or len(lines) < 2 or not lines[1].strip():
        return 0
    return next((number + 1 for number, line in enumerate(lines) if number and line in ends), 0)


def _read_cues(data: bytes, field: str) -> tuple[list[str], Write]:
    """SubRip and WebVTT, with the line ends that they have."""
    text = _decoded(data, field)
    units, write = subtitles.read(text, field)
    return units, lambda texts: _with_ends_of(text, write(texts)).encode()


_SILENT = ("script", "style", "code", "pre", "kbd", "samp", "svg", "math", "template", "noscript", "textarea")
_BLOCKS = frozenset(
    "address article aside blockquote body caption center dd details div dl dt fieldset figcaption figure footer form "  # noqa: SIM905
    "h1 h2 h3 h4 h5 h6 head header hr html legend li main nav ol option p section select summary table tbody td tfoot "
    "th thead title tr ul br".split()
)


def _read_html(data: bytes, field: str) -> tuple[list[str], Write]:
    from bs4 import BeautifulSoup
    from bs4.element import Comment, NavigableString, PreformattedString, Tag
    from bs4.exceptions import ParserRejectedMarkup

    if (tags := data.count(b"<")) > MAX_TAGS:
        raise InvalidInput(field, f"The page has {tags:,} tags; at most {MAX_TAGS:,} are read. Split it.")
    try:
        soup = BeautifulSoup(_decoded(data, field), "html.parser")
    except (ParserRejectedMarkup, RecursionError) as error:
        raise InvalidInput(field, "This page is not HTML that can be read.") from error
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
