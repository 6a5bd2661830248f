"""Documents as units of text to be translated, and written back in their own format with everything else untouched.

txt, md, srt, vtt, html, docx and odt. Subtitles, docx and odt are changed in place at the level of their text: readers
that build objects from them lose what they do not know (cue settings, styles, fields).
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlcore.errors import InvalidInput

MAX_BYTES = 5 << 20
MAX_UNPACKED = 100 << 20  # bytes of an archive's members together
MAX_RATIO = 200  # unpacked bytes a packed one: text packs to a twentieth at most
MAX_UNITS = 50_000
SUFFIXES = (".txt", ".md", ".srt", ".vtt", ".html", ".htm", ".docx", ".odt")
ALLOWED = ", ".join(SUFFIXES)
_OLE = b"\xd0\xcf\x11\xe0"  # the container of encrypted docx and of the old .doc

Write = Callable[[Sequence[str]], bytes]


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
        **{".html": _read_html, ".htm": _read_html, ".docx": _read_docx, ".odt": _read_odt},
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
            for node, part in zip(run, _parted(text, [flat(node) for node in run]), strict=True):
                node.replace_with(NavigableString(part))
        return str(soup).encode()

    return [_joined([flat(node) for node in run]) for run in kept], write


_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"


def _read_docx(data: bytes, field: str) -> tuple[list[str], Write]:
    def leaves(paragraph: Any) -> list[tuple[Any, str]]:
        return [(node, "text") for node in paragraph.iter(f"{_WORD}t") if _nearest(node, (f"{_WORD}p",)) is paragraph]

    names = re.compile(r"word/(document|header\d*|footer\d*|footnotes|endnotes)\.xml\Z")
    return _read_archive(data, names, (f"{_WORD}p",), leaves, field)


def _read_odt(data: bytes, field: str) -> tuple[list[str], Write]:
    blocks = (f"{_TEXT}p", f"{_TEXT}h")
    silent = (f"{_TEXT}note-citation", f"{_TEXT}tracked-changes")

    def leaves(paragraph: Any) -> list[tuple[Any, str]]:
        found: list[tuple[Any, str]] = []
        for node in paragraph.iter():
            if not isinstance(node.tag, str) or (node is not paragraph and _nearest(node, blocks) is not paragraph):
                continue
            if node.text and node.tag not in silent:
                found.append((node, "text"))
            # what follows an element lies in its parent
            found += [(child, "tail") for child in node if child.tail]
        order = {id(node): place for place, node in enumerate(paragraph.iter())}
        last = {id(node): max(order[id(inner)] for inner in node.iter()) for node, _ in found}
        return sorted(found, key=lambda leaf: (order[id(leaf[0])], 0) if leaf[1] == "text" else (last[id(leaf[0])], 1))

    return _read_archive(data, re.compile(r"(content|styles)\.xml\Z"), blocks, leaves, field)


def _nearest(node: Any, tags: Sequence[str]) -> Any:
    """The closest element of these tags that holds a node."""
    parent = node.getparent()
    while parent is not None and parent.tag not in tags:
        parent = parent.getparent()
    return parent


def _read_archive(
    data: bytes,
    names: re.Pattern[str],
    tags: Sequence[str],
    leaves: Callable[[Any], list[tuple[Any, str]]],
    field: str,
) -> tuple[list[str], Write]:
    """The paragraphs of a zip of XML files; the other files are copied."""
    from lxml import etree

    members = _unpacked(data, field)
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
    trees: dict[str, Any] = {}
    for name in filter(names.match, members):
        try:
            trees[name] = etree.fromstring(members[name], parser)
        except etree.XMLSyntaxError as error:
            raise InvalidInput(field, "The file is damaged: its text cannot be read. Save it again.") from error
    if not trees:
        raise InvalidInput(field, "There is no text in this file. Is it really what its name says?")
    paragraphs = [leaves(node) for tree in trees.values() for node in tree.iter(*tags)]
    kept = [
        group for group in paragraphs if any(getattr(node, where).strip() for node, where in group if _of(node, where))
    ]

    def write(texts: Sequence[str]) -> bytes:
        for group, text in zip(kept, texts, strict=True):
            for (node, where), part in zip(group, _parted(text, [_of(*leaf) for leaf in group]), strict=True):
                setattr(node, where, part)
                if node.tag == f"{_WORD}t":
                    node.set("{http://www.w3.org/XML/1998/namespace}space", "preserve")
        changed = {
            name: etree.tostring(tree, xml_declaration=True, encoding="UTF-8", standalone=True)
            for name, tree in trees.items()
        }
        return _packed(data, changed)

    return [_joined([_of(*leaf) for leaf in group]) for group in kept], write


def _of(node: Any, where: str) -> str:
    return getattr(node, where) or ""


def _unpacked(data: bytes, field: str) -> dict[str, bytes]:
    """Members of an archive, never more than the limits whatever its directory says."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            total = sum(entry.file_size for entry in entries)
            if total > MAX_UNPACKED or total > MAX_RATIO * len(data) or len(entries) > 5_000:
                raise InvalidInput(field, "The file unpacks to far more than it should, so it is not opened.")
            if any(entry.flag_bits & 1 for entry in entries):
                raise InvalidInput(field, "The file is encrypted. Save it without a password.")
            found = {}
            for entry in entries:
                with archive.open(entry) as member:
                    found[entry.filename] = member.read(entry.file_size + 1)[: entry.file_size]
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, OSError, EOFError, ValueError) as error:
        raise InvalidInput(field, "The file is damaged or cut off. Save it again and send it once more.") from error
    except Exception as error:  # zlib.error and whatever else a broken member leads to
        if isinstance(error, InvalidInput | MemoryError):
            raise
        raise InvalidInput(field, "The file is damaged or cut off. Save it again and send it once more.") from error
    manifest = found.get("META-INF/manifest.xml", b"")
    if b"encryption-data" in manifest:
        raise InvalidInput(field, "The file is encrypted. Save it without a password.")
    return found


def _packed(data: bytes, changed: dict[str, bytes]) -> bytes:
    """The archive again with some members changed, in the same order and packed as before (odt wants that)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w") as target:
        for entry in source.infolist():
            content = changed.get(entry.filename)
            target.writestr(
                entry, source.read(entry) if content is None else content, compress_type=entry.compress_type
            )
    return buffer.getvalue()


_TAGGED = re.compile(r"<g(\d+)>(.*?)</g\1>", re.DOTALL)
_TAG = re.compile(r"</?g\d+>")
_MOST_TAGGED = 8  # pieces of one paragraph that differ in their looks; of more all become like the longest


def _tagged(parts: Sequence[str]) -> list[int]:
    """Pieces that stand between tags: every other one, such that the longest is not among them."""
    real = [place for place, part in enumerate(parts) if part.strip()]
    if len(real) < 2:
        return []
    longest = max(range(len(real)), key=lambda rank: len(parts[real[rank]]))
    found = [place for rank, place in enumerate(real) if rank % 2 != longest % 2]
    return found if len(found) <= _MOST_TAGGED else []


def _joined(parts: Sequence[str]) -> str:
    """The text of a paragraph of several pieces, every other one as <g1>...</g1>."""
    tagged = _tagged(parts)
    return "".join(f"<g{place}>{part}</g{place}>" if place in tagged else part for place, part in enumerate(parts))


def _parted(text: str, parts: Sequence[str]) -> list[str]:
    """A translation cut at its tags into the pieces that the paragraph had.

    Where tags are broken or in another order than the pieces, whose places are fixed, the longest piece gets it all.
    """
    tagged = _tagged(parts)
    cuts = _TAGGED.split(text)  # outside, number, inside, outside, ...
    numbers = [int(number) for number in cuts[1::3]]
    out = ["" if part.strip() else None for part in parts]
    if numbers == tagged and not any(map(_TAG.search, [*cuts[::3], *cuts[2::3]])):
        borders = [-1, *numbers, len(parts)]
        for place, inside in zip(numbers, cuts[2::3], strict=True):
            out[place] = inside
        for rank, outside in enumerate(cuts[::3]):
            between = [place for place in range(borders[rank] + 1, borders[rank + 1]) if parts[place].strip()]
            if between:
                out[between[0]] = outside
            elif outside.strip():
                break
            elif rank and outside:
                out[borders[rank]] = f"{out[borders[rank]]}{outside}"
        else:
            return [part if new is None else new for part, new in zip(parts, out, strict=True)]
    longest = max(range(len(parts)), key=lambda place: len(parts[place].strip()))
    plain = _TAG.sub("", text)
    return [plain if place == longest else "" if part.strip() else part for place, part in enumerate(parts)]
