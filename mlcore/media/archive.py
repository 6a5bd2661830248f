"""Documents that are archives of XML (docx, odt): their paragraphs, changed in place by zipfile and lxml.

Readers that build objects from them lose what they do not know (styles, fields); these see text alone.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

from mlcore.errors import InvalidInput
from mlcore.media.runs import joined, parted

MAX_UNPACKED = 100 << 20  # bytes of an archive's members together
MAX_TAGS = 1_000_000  # of its XML files together: parsed, each takes some 200 bytes
MAX_RATIO = 200  # unpacked bytes a packed one: text packs to a twentieth at most
Write = Callable[[Sequence[str]], bytes]
Leaf = list[tuple[Any, str]]  # what is one piece: the "text" of a node or the "tail" behind it, or some of them
Leaves = list[Leaf]

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_STYLE = "{urn:oasis:names:tc:opendocument:xmlns:style:1.0}"


def read_docx(data: bytes, field: str) -> tuple[list[str], Write]:
    """Word: paragraphs of the text, headers, footers and notes; a tab or line break parts one."""
    texts, borders = f"{_WORD}t", (f"{_WORD}tab", f"{_WORD}br", f"{_WORD}cr")

    def groups(paragraph: Any) -> list[Leaves]:
        found: list[Leaves] = [[]]
        for node in paragraph.iter(texts, *borders):
            if _nearest(node, (f"{_WORD}p",)) is not paragraph:
                continue
            if node.tag != texts:
                found.append([])
            elif found[-1] and _go_on(found[-1][-1][-1][0], node):
                found[-1][-1].append((node, "text"))
            else:
                found[-1].append([(node, "text")])
        return found

    body = re.compile(r"word/document\d*\.xml\Z")  # SharePoint numbers it
    others = re.compile(r"word/(header\d*|footer\d*|footnotes|endnotes)\.xml\Z")
    return _read_archive(data, (body, others), (f"{_WORD}p",), groups, field)


def read_odt(data: bytes, field: str) -> tuple[list[str], Write]:
    """OpenDocument: paragraphs and headings; a tab or line break parts one."""
    blocks = (f"{_TEXT}p", f"{_TEXT}h")
    silent = (f"{_TEXT}note-citation", f"{_TEXT}tracked-changes")
    borders = (f"{_TEXT}tab", f"{_TEXT}line-break")

    looks: dict[Any, dict[str, str]] = {}  # of the named styles of each file

    def groups(paragraph: Any) -> list[Leaves]:
        root = paragraph.getroottree().getroot()
        if root not in looks:
            looks[root] = _looks(root)
        found: list[Leaves] = [[]]
        before: tuple[str, ...] | None = None  # how the last piece looks, where the next one may go on with it

        def put(node: Any, where: str, look: tuple[str, ...]) -> None:
            nonlocal before
            if found[-1] and look == before:
                found[-1][-1].append((node, where))
            else:
                found[-1].append([(node, where)])
            before = look

        def walk(node: Any, look: tuple[str, ...]) -> None:
            nonlocal before
            if node.text and node.tag not in silent:
                put(node, "text", look)
            for child in node:
                if child.tag == f"{_TEXT}span":
                    own = looks[root].get(name := child.get(f"{_TEXT}style-name", ""), name)
                    walk(child, (*look, own) if own else look)
                else:
                    before = None
                    if child.tag in borders:
                        found.append([])
                    # a paragraph inside (a note's, a comment's, a frame's) is one of its own; what follows it is ours
                    elif isinstance(child.tag, str) and child.tag not in blocks:
                        walk(child, look)
                        before = None
                if child.tail:
                    put(child, "tail", look)

        walk(paragraph, ())
        return found

    return _read_archive(data, (re.compile(r"content\.xml\Z"), re.compile(r"styles\.xml\Z")), blocks, groups, field)


def _looks(root: Any) -> dict[str, str]:
    """How text of each style looks, by its name: LibreOffice has one for each sitting in which a text was edited."""
    from lxml import etree

    found: dict[str, str] = {}
    for style in root.iter(f"{_STYLE}style"):
        if style.get(f"{_STYLE}family") == "text":
            seen = [style.get(f"{_STYLE}parent-style-name", "")]
            for node in style:
                told = sorted(item for item in node.attrib.items() if not item[0].endswith("rsid"))
                if told or len(node):
                    seen += [
                        node.tag,
                        *map("=".join, told),
                        *(etree.tostring(part, encoding="unicode") for part in node),
                    ]
            found[style.get(f"{_STYLE}name", "")] = " ".join(filter(None, seen))
    return found


def _go_on(last: Any, text: Any) -> bool:
    """Whether a text looks like the one before it and follows at once: Word cuts words where it checks spelling."""
    before, run = last.getparent(), text.getparent()
    if before.getparent() is not run.getparent() or last is not before[-1]:
        return False
    if any(node.tag != f"{_WORD}rPr" for node in text.itersiblings(preceding=True)) and before is not run:
        return False
    for node in before.itersiblings():
        if node is run:
            return _look(before) == _look(run)
        if node.tag not in _UNSEEN:
            return False
    return False


_UNSEEN = tuple(f"{_WORD}{name}" for name in ("proofErr", "bookmarkStart", "bookmarkEnd"))


def _look(run: Any) -> list[bytes]:
    """How a run looks, but for what only a spelling checker sees."""
    from lxml import etree

    looks: Any = run.find(f"{_WORD}rPr")
    seen = [] if looks is None else [node for node in looks if node.tag not in (f"{_WORD}lang", f"{_WORD}noProof")]
    return sorted(etree.tostring(node, with_tail=False) for node in seen)


def _nearest(node: Any, tags: Sequence[str]) -> Any:
    """The closest element of these tags that holds a node."""
    parent = node.getparent()
    while parent is not None and parent.tag not in tags:
        parent = parent.getparent()
    return parent


def _read_archive(
    data: bytes,
    names: tuple[re.Pattern[str], re.Pattern[str]],
    tags: Sequence[str],
    groups: Callable[[Any], list[Leaves]],
    field: str,
) -> tuple[list[str], Write]:
    """The paragraphs of a zip of XML files, those of the text itself and others; the other files are copied."""
    from lxml import etree

    members = {name: content for name, content in _unpacked(data, field).items() if any(n.match(name) for n in names)}
    if (number := sum(content.count(b"<") for content in members.values())) > MAX_TAGS:
        raise InvalidInput(field, f"The file has {number:,} tags; at most {MAX_TAGS:,} are read. Split it.")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
    trees: dict[str, Any] = {}
    for name, content in members.items():
        try:
            trees[name] = etree.fromstring(content, parser)
        except etree.XMLSyntaxError as error:
            raise InvalidInput(field, "The file is damaged: its text cannot be read. Save it again.") from error
    if not any(map(names[0].match, trees)):
        raise InvalidInput(field, "There is no text in this file. Is it really what its name says?")
    if all(b"http://purl.oclc.org/ooxml" in content for content in members.values()):
        raise InvalidInput(field, "This is a “Strict Open XML” document. Save it as an ordinary Word document (.docx).")
    try:
        pieces = [group for tree in trees.values() for node in tree.iter(*tags) for group in groups(node)]
    except RecursionError as error:
        raise InvalidInput(field, "The file is nested too deeply to be read.") from error
    kept = [group for group in pieces if any(_of(leaf).strip() for leaf in group)]

    def write(texts: Sequence[str]) -> bytes:
        for group, text in zip(kept, texts, strict=True):
            for leaf, part in zip(group, parted(text, [_of(leaf) for leaf in group]), strict=True):
                for place, (node, where) in enumerate(leaf):
                    setattr(node, where, "" if place else part)
                if leaf[0][0].tag == f"{_WORD}t":
                    leaf[0][0].set("{http://www.w3.org/XML/1998/namespace}space", "preserve")
        changed = {
            name: etree.tostring(tree, xml_declaration=True, encoding="UTF-8", standalone=True)
            for name, tree in trees.items()
        }
        return _packed(data, changed)

    return [joined([_of(leaf) for leaf in group]) for group in kept], write


def _of(leaf: Leaf) -> str:
    return "".join(getattr(node, where) or "" for node, where in leaf)


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
            if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries):
                # zipfile unpacks these without a limit
                raise InvalidInput(field, "The file is packed in an unusual way. Save it again with a word processor.")
            found = {}
            for entry in entries:
                with archive.open(entry) as member:
                    found[entry.filename] = member.read(entry.file_size + 1)[: entry.file_size]
    except (InvalidInput, MemoryError):
        raise
    except Exception as error:  # zipfile and the decompressors raise whatever a broken archive led them to
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
