"""Documents: each format in and out with everything but its text untouched; broken and hostile ones in words."""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import docx
import pytest

from mlcore.errors import InvalidInput
from mlcore.media import document, runs

ODT = (
    '<?xml version="1.0"?><office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0"><office:body><office:text><text:h>Title</text:h>'
    '<text:p>Dear <text:span text:style-name="T1">Anna</text:span>, how <text:line-break/>'
    "are you?</text:p><text:p/></office:text></office:body></office:document-content>"
)


def odt(content: str = ODT) -> bytes:
    return packed({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": content})


def packed(members: dict[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def word() -> bytes:
    made, buffer = docx.Document(), io.BytesIO()
    made.add_heading("A letter")
    paragraph = made.add_paragraph("Dear ")
    paragraph.add_run("Anna").bold = True
    paragraph.add_run(", how are you?")
    made.add_table(1, 1).cell(0, 0).text = "A cell"
    made.save(buffer)
    return buffer.getvalue()


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str, bytes | str], document.Document]:
    def opened(name: str, data: bytes | str) -> document.Document:
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return document.read(path)

    return opened


def shouted(text: str) -> str:
    """A text in capitals, tags left alone."""
    return re.sub(r"(</?g\d+>)|([^<]+)", lambda match: match[1] or match[2].upper(), text)


def test_subtitles_keep_their_times_and_lines(read: Callable) -> None:
    first, second = "1\n00:00:01,000 --> 00:00:02,500\n", "2\n00:00:03,000 --> 00:00:04,000\n"
    text = f"{first}Hello there,\nhow are you?\n\n{second}- Fine.\n- Good.\n"
    found = read("a.srt", text.replace("\n", "\r\n"))
    assert found.units == ("Hello there, how are you?", "- Fine.\n- Good.")
    written = found.write(["Hallo, wie geht es dir?", "- Gut.\n- Schön."]).decode()
    assert written == f"{first}Hallo, wie\ngeht es dir?\n\n{second}- Gut.\n- Schön.\n".replace("\n", "\r\n")


def test_text_behind_a_blank_line_of_a_subtitle_is_text(read: Callable) -> None:
    first, second = "1\n00:00:01,000 --> 00:00:02,500\n", "2\n00:00:03,000 --> 00:00:04,000\n"
    text = f"{first}Hello there\n\nhow are you?\n\n\n{second}Fine.\n"
    found = read("a.srt", text)
    assert found.units == ("Hello there", "how are you?", "Fine.")
    written = found.write([shouted(unit) for unit in found.units]).decode()
    for words in ("Hello there", "how are you", "Fine"):
        text = text.replace(words, words.upper())
    assert written == text


def test_a_subtitle_may_say_note_and_numbers_stay_numbers(read: Callable) -> None:
    first, second = "1\n00:00:01,000 --> 00:00:02,500\n", "\ufeff2\n\n00:00:03,000 --> 00:00:04,000\n"
    third = "Scene A\n00:00:05,000 --> 00:00:06,000\n"
    text = f"{first}Hello\n\nNOTEBOOK found\n\nNOTE this\n\n{second}Fine.\n\n{third}Good.\n"
    assert read("a.srt", text).units == ("Hello", "NOTEBOOK found", "NOTE this", "Fine.", "Good.")
    headed = "\nWEBVTT\n\nid7\n00:01.000 --> 00:02.000\nHi\n\nid8\n00:03.000 --> 00:04.000\nHo\n"
    assert read("a.vtt", headed).units == read("a.vtt", headed.replace("\nWEBVTT\n\n", "")).units == ("Hi", "Ho")


def test_webvtt_keeps_notes_styles_and_settings(read: Callable) -> None:
    text = "WEBVTT\n\nNOTE a --> b\n\nSTYLE\n::cue {}\n\nid\n00:01.000 --> 00:02.000 align:start\nHello you\n"
    found = read("a.vtt", text)
    assert found.units == ("Hello you",)
    assert found.write(["Hallo du"]).decode() == text.replace("Hello you", "Hallo du")


def test_markdown_keeps_code_and_front_matter(read: Callable) -> None:
    text = "---\ntitle: x\n---\n# Title\n\n```py\nprint('Hello')\n```\n\n    indented = code\n\nText.\n"
    written = read("a.md", text).write([shouted(unit) for unit in read("a.md", text).units]).decode()
    assert written == text.replace("# Title", "# TITLE").replace("Text.", "TEXT.")


def test_html_keeps_its_tags_and_scripts(read: Callable) -> None:
    text = (
        "<html><head><title>My page</title><script>alert('x')</script></head><body><h1>Hello <b>big</b> world</h1>"
        '<p>Some &amp; more<br/>Next</p><!-- note --><p translate="no">Name</p><code>x = 1</code></body></html>'
    )
    found = read("a.html", text)
    assert found.units == ("My page", "Hello <g1>big</g1> world", "Some & more", "Next")
    written = found.write([shouted(unit) for unit in found.units]).decode()
    for word in ("My page", "Hello ", "big", " world", "Some &amp; more", "Next"):
        text = text.replace(f">{word}<", f">{word.upper().replace('&AMP;', '&amp;')}<")
    assert written == text


def test_word_keeps_runs_and_tables(read: Callable) -> None:
    found = read("a.docx", word())
    assert found.units == ("A letter", "Dear <g1>Anna</g1>, how are you?", "A cell")
    again = docx.Document(io.BytesIO(found.write(["Ein Brief", "Liebe <g1>Anna</g1>, wie geht es?", "Eine Zelle"])))
    runs = again.paragraphs[1].runs
    assert [run.text for run in runs] == ["Liebe ", "Anna", ", wie geht es?"]
    assert [run.bold for run in runs] == [None, True, None]
    assert again.tables[0].cell(0, 0).text == "Eine Zelle"


@pytest.mark.parametrize("text", ["Wie <g1>geht", "<g1>Anna</g1> und <g1>Anna</g1>", "gar keine", "</g1>x<g1>"])
def test_broken_tags_cost_the_looks_never_the_words(read: Callable, text: str) -> None:
    again = docx.Document(io.BytesIO(read("a.docx", word()).write(["a", text, "b"])))
    assert again.paragraphs[1].text == re.sub(r"</?g\d+>", "", text)


def test_opendocument_keeps_spans(read: Callable) -> None:
    found = read("a.odt", odt())
    assert found.units == ("Title", "Dear <g1>Anna</g1>, how ", "are you?")
    written = found.write([shouted(unit) for unit in found.units])
    with zipfile.ZipFile(io.BytesIO(written)) as archive:
        assert archive.namelist() == ["mimetype", "content.xml"]
        content = archive.read("content.xml").decode()
    assert "<text:h>TITLE</text:h>" in content
    assert '<text:span text:style-name="T1">ANNA</text:span>, HOW <text:line-break/>ARE YOU?</text:p>' in content


def test_spans_of_an_odt_that_look_alike_are_one_piece(read: Callable) -> None:
    style = '<style:style style:name="{}" style:family="text"><style:text-properties {}/></style:style>'
    looks = (("T1", 'off:rsid="a1"'), ("T2", 'off:rsid="b2"'), ("T3", 'off:rsid="b2" fo:font-weight="bold"'))
    span = '<text:span text:style-name="{}">{}</text:span>'
    text = (
        '<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
        'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" xmlns:off="http://openoffice.org/2009/office" '
        'xmlns:style="urn:oasis:names:tc:opendocument:xmlns:style:1.0" xmlns:fo="urn:oasis:names:tc:opendocument:'
        f'xmlns:xsl-fo-compatible:1.0">{"".join(style.format(*look) for look in looks)}<text:p>The '
        f"{span.format('T1', 'do')}{span.format('T2', 'g sle')}eps {span.format('T3', 'we')}{span.format('T3', 'll')}."
        "</text:p></office:document-content>"
    )
    found = read("a.odt", odt(text))
    assert found.units == ("The dog sleeps <g1>well</g1>.",)
    written = found.write(["Der Hund schläft <g1>gut</g1>."])
    with zipfile.ZipFile(io.BytesIO(written)) as archive:
        content = archive.read("content.xml").decode()
    assert re.sub(r"<[^>]*>", "", content).strip() == "Der Hund schläft gut."
    assert span.format("T3", "gut") in content


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.pdf", b"%PDF", "not read"),
        ("a", b"text", "without an ending"),
        ("a.txt", b"", "empty"),
        ("a.txt", b"12 34\n", "no words"),
        ("a.txt", b"a\0b", "no text file"),
        ("a.txt", b"word " * 1_100_000, "at most 5 MB"),
        ("a.docx", b"hello", "no .docx"),
        ("a.docx", b"\xd0\xcf\x11\xe0" + b"x" * 600, "encrypted"),
        ("a.docx", word()[:2_000], "damaged"),
        ("a.docx", packed({"other.xml": "<a/>"}), "no text in this file"),
        ("a.docx", packed({"word/document.xml": "<a"}), "damaged"),
        ("a.docx", packed({"word/document.xml": b"<a>" + b" " * 40_000_000 + b"</a>"}), "unpacks"),
        ("a.docx", packed({"word/document.xml": "<a/>"}, zipfile.ZIP_BZIP2), "unusual way"),
        ("a.odt", packed({"content.xml": ODT}, zipfile.ZIP_LZMA), "unusual way"),
        ("a.odt", packed({"META-INF/manifest.xml": "<encryption-data/>", "content.xml": ODT}), "encrypted"),
        ("a.srt", b"1\n00:00:aa --> 00:00:02\nHello\n", "broken times"),
        ("a.srt", b"just text", "no subtitles"),
        ("a.html", b"<div>" * 5_000 + b"deep", "nested"),
        ("a.txt", b"PK\x03\x04", "no .txt"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(read: Callable, name: str, data: bytes, words: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(words)):
        read(name, data)


def test_entities_of_xml_are_not_opened(read: Callable) -> None:
    hostile = ODT.replace(
        '<?xml version="1.0"?>', '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    )
    found = read("a.odt", odt(hostile.replace("Title", "Title &x;")))
    assert "root:" not in " ".join(found.units)


def test_windows_text_is_read(read: Callable) -> None:
    assert read("a.txt", "Größe".encode("cp1252")).units == ("Größe",)
    assert read("a.txt", "Größe".encode("utf-16")).units == ("Größe",)


def test_a_file_is_damaged_at_any_byte_and_nothing_crashes(read: Callable) -> None:
    data = word()
    refused = written = 0
    for place in range(0, len(data), max(1, len(data) // 150)):
        broken = bytearray(data)
        broken[place] ^= 0xFF
        try:
            found = read("a.docx", bytes(broken))
            found.write(list(found.units))
            written += 1
        except InvalidInput:
            refused += 1
    assert refused > 20
    assert written, "a byte that is not read harms nothing"


def opendocument(body: str) -> bytes:
    return odt(re.sub(r"<office:text>.*</office:text>", f"<office:text>{body}</office:text>", ODT))


@pytest.mark.parametrize(
    ("body", "units"),
    [
        (
            "<text:p>A<text:a>link<text:s/></text:a> b<text:span><text:s/></text:span>c</text:p>",
            ("<g0>A</g0>link<g2> b</g2>c",),
        ),
        (
            '<text:p>a <text:span text:style-name="T1">b<text:tab/>c</text:span> d '
            '<text:span text:style-name="T2">e<text:tab/>f</text:span> g</text:p>',
            ("a <g1>b</g1>", "<g0>c</g0> d <g2>e</g2>", "<g0>f</g0> g"),
        ),
        (
            "<text:p>See this<text:note><text:note-citation>1</text:note-citation><text:note-body>"
            "<text:p>A rather long footnote.</text:p></text:note-body></text:note> now.</text:p>",
            ("See this<g1> now.</g1>", "A rather long footnote."),
        ),
    ],
)
def test_opendocument_texts_come_in_order_and_once(read: Callable, body: str, units: tuple[str, ...]) -> None:
    found = read("a.odt", opendocument(body))
    assert found.units == units
    written = found.write(["no tags at all"] * len(found.units))
    with zipfile.ZipFile(io.BytesIO(written)) as archive:
        assert archive.read("content.xml").decode().count("no tags at all") == len(found.units)


@pytest.mark.parametrize(
    "parts",
    [["Hello", " ", "world"], ["One ", "two", " three"], [" ", "a", "b "], ["x", "", "y", " ", "z"], ["only"], [" a "]],
)
def test_pieces_come_back_as_they_were(parts: list[str]) -> None:
    assert "".join(runs.parted(runs.joined(parts), parts)) == "".join(parts)


def test_many_pieces_take_the_looks_of_the_longest() -> None:
    parts = [word for i in range(12) for word in (f"b{i} ", "plain text of some length ")]
    found = runs.parted("translated", parts)
    assert found[1] == "translated"
    assert "".join(found) == "translated"


def test_what_looks_like_a_tag_stays_where_there_are_none() -> None:
    assert runs.parted("x <g1>lit</g1> y", ["x <g1>lit</g1> y"]) == ["x <g1>lit</g1> y"]
    mixed = ["x <g1>", "and", " y"]
    assert runs.parted(runs.joined(mixed), mixed) == ["x <g1>and y", "", ""]


@pytest.mark.timeout(60)
def test_many_broken_tags_are_no_tags() -> None:
    parts = ["Hello ", "you"]
    assert runs.joined(parts) == "Hello <g1>you</g1>"
    assert runs.parted("Hallo " + "<g9>" * 200_000 + "du", parts) == ["Hallo du", ""]
    for broken in ("<g1>Hallo du", "Hallo</g1> <g1>du", "<g1>Hallo <g1>du</g1></g1>", "<g0>Hallo</g0> du"):
        assert runs.parted(broken, parts) == ["Hallo du", ""]


def test_subtitles_without_blank_lines_are_cues_too(read: Callable) -> None:
    times = "00:00:0{},000 --> 00:00:0{},500"
    text = f'\ufeff1\n{times.format(1, 1)}\nHello there\n2\n{times.format(3, 3)}\n<font color="red">Yes</font>\nso\n'
    found = read("a.srt", text)
    assert found.units == ("Hello there", '<font color="red">Yes</font> so')
    written = found.write(["Hallo", '<font color="red">Ja</font> so']).decode()
    assert written.count("-->") == 2
    assert '<font color="red">Ja</font>\nso' in written


def test_nested_lists_are_text_and_fences_close_by_their_own_kind(read: Callable) -> None:
    text = "- one\n    - nested item\n\nPara.\n\n```\ncode\n~~~\nmore code\n```\nAfter.\n"
    found = read("a.md", text)
    written = found.write([shouted(unit) for unit in found.units]).decode()
    assert "NESTED ITEM" in written
    assert "more code" in written
    assert "AFTER." in written


def test_a_page_that_is_no_html_is_refused_in_words(read: Callable) -> None:
    with pytest.raises(InvalidInput, match="HTML"):
        read("a.html", "<![foo[bar]]><p>Text</p>")


@pytest.mark.timeout(60)
def test_large_markdown_is_read(read: Callable) -> None:
    assert [unit.strip() for unit in read("a.md", "text\n\n" + "```a\n" * 100_000).units] == ["text"]
    assert read("a.md", "some words of plain text\n" * 100_000).units == ("some words of plain text\n" * 100_000,)
    assert read("a.md", "|a|\n" + "|-|\n" * 100_000).units[1] == "a"


def test_words_that_word_itself_cut_are_whole(read: Callable) -> None:
    made, buffer = docx.Document(), io.BytesIO()
    paragraph = made.add_paragraph()
    for text in ("The chil", "dren are ", "playing in the gar", "den."):
        paragraph.add_run(text)
    paragraph.add_run(" Now").bold = True
    paragraph.add_run("!").bold = True
    made.save(buffer)
    found = read("a.docx", buffer.getvalue())
    assert found.units == ("The children are playing in the garden.<g1> Now!</g1>",)
    written = docx.Document(io.BytesIO(found.write(["Die Kinder spielen im Garten.<g1> Jetzt!</g1>"])))
    runs = written.paragraphs[0].runs
    assert [run.text for run in runs] == ["Die Kinder spielen im Garten.", "", "", "", " Jetzt!", ""]
    assert [run.bold for run in runs] == [None] * 4 + [True] * 2


def test_a_note_between_two_runs_keeps_its_place(read: Callable) -> None:
    space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    text = f'<w:document xmlns:w="{space}"><w:body><w:p><w:r><w:t>One</w:t></w:r><w:r><w:footnoteReference w:id="1"/>'
    text += "</w:r><w:r><w:t> two</w:t></w:r></w:p></w:body></w:document>"
    found = read("a.docx", packed({"word/document.xml": text}))
    assert found.units == ("<g0>One</g0> two",)


def test_tables_of_markdown_are_cells(read: Callable) -> None:
    text = "Words | here\n\n| Name | Age |\n|---|---:|\n| The dog | a \\| b |\n\n- [ ] a task\n"
    found = read("a.md", text)
    assert [unit.strip() for unit in found.units if unit.strip()] == [
        *("Words | here", "Name", "Age", "The dog", "a \\| b", "- [ ] a task"),
    ]
    assert found.write(list(found.units)).decode() == text


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("---\n\nA rule at the top.\n\n---\n\nMore.\n", ["A rule at the top.", "More."]),
        ("---\nA rule that never ends.\n", ["A rule that never ends."]),
        ('+++\ntitle = "x"\n+++\nText.\n', ["Text."]),
    ],
)
def test_front_matter_is_what_ends_and_begins_at_once(read: Callable, text: str, kept: list[str]) -> None:
    found = read("a.md", text)
    words = [line for unit in found.units for line in unit.split("\n") if re.search(r"\w", line)]
    assert words == kept
    assert found.write(list(found.units)).decode() == text


@pytest.mark.parametrize("name", ["a.md", "a.srt", "a.txt"])
def test_line_ends_of_windows_stay(read: Callable, name: str) -> None:
    text = "1\r\n00:00:01,000 --> 00:00:02,000\r\nOne line\r\nand more.\r\n"
    found = read(name, text)
    assert found.write(list(found.units)).count(b"\r\n") == 4


def test_a_film_that_lost_its_blank_lines_is_read_in_time(read: Callable) -> None:
    lines = "".join(f"Line {number}.\n" for number in range(3_000))
    text = f"1\n00:00:01,000 --> 00:00:02,500\n{lines}"
    found = read("a.srt", text)
    assert found.write(found.units).decode() == text


def test_a_row_of_a_table_full_of_spaces_is_read_in_time(read: Callable) -> None:
    text = f"| a | b |\n|---|---|\n| x{' ' * 200_000}y \\| z |  w |\n"
    found = read("a.md", text)
    assert {f"x{' ' * 200_000}y \\| z", "w"} <= set(found.units)
    assert found.write(found.units).decode() == text


def test_a_body_of_another_number_is_the_text_and_strict_files_are_told(read: Callable) -> None:
    with zipfile.ZipFile(io.BytesIO(word())) as archive:
        members = {name.replace("document.xml", "document2.xml"): archive.read(name) for name in archive.namelist()}
    assert "A letter" in read("a.docx", packed(members)).units
    only_head = {name: content for name, content in members.items() if "document2" not in name}
    only_head["word/header1.xml"] = members["word/document2.xml"]
    with pytest.raises(InvalidInput, match="no text in this file"):
        read("a.docx", packed(only_head))
    strict = {
        "word/document.xml": '<w:document xmlns:w="http://purl.oclc.org/ooxml/wordprocessingml/main"><w:p/></w:document>'
    }
    with pytest.raises(InvalidInput, match="Strict Open XML"):
        read("a.docx", packed(strict))


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.html", "<br>" * 400_000, "tags"),
        ("a.txt", "I\n" * 300_000, "lines"),
        (
            "a.docx",
            packed({"word/document.xml": "<a>" + "<b/>" * 1_100_000 + "</a>", "x": os.urandom(200_000)}),
            "tags",
        ),
    ],
)
def test_what_would_fill_the_memory_is_refused(read: Callable, name: str, data: bytes, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        read(name, data)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    for name in ("missing.txt", "a\0.txt"):
        with pytest.raises(InvalidInput, match="no such file"):
            document.read(tmp_path / name)


def test_an_arrow_in_a_subtitle_is_text(read: Callable) -> None:
    text = "1\n00:00:01,000 --> 00:00:02,000\nFrom A --> B\nwe go.\n"
    found = read("a.srt", text)
    assert found.units == ("From A --> B we go.",)
    with pytest.raises(InvalidInput, match="broken times"):
        read("b.srt", "1\n00:00:01 --> 00:00:02\nHello\n")
