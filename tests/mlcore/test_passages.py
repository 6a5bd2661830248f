"""Taking texts apart and putting them together again: nothing between sentences is lost."""

from __future__ import annotations

import re

import pytest

from mlcore.passages import LONGEST, split


def rejoined(text: str, language: str = "en") -> str:
    passage = split(text, language)
    return passage.join([" ".join(segment.text.split()) for segment in passage.segments])


@pytest.mark.parametrize(
    "text",
    [
        "One. Two!  Three?",
        "- first\n- second\n\n  * deep\n1. number\n# Title\n> quoted",
        "\n\n  Leading and trailing  \n\n",
        "\tTab here.\r\nWindows line.\r\n",
        "1234\n----\n😀",
        "",
        "   ",
        "a" * 5_000,
        "Apples\t3\nPears\t5 pieces\tgood",
        "Name      Age\nTom Brown    seven",
        "- [x] done\n◦ round\n▪ square",
        "A line that is surely longer than forty characters\rand it goes on here.\u2028and here",
        "He said “Go!” and left. Dr. Smith, e.g. with J. R. Jones, stayed.",
    ],
)
def test_a_text_comes_back_as_it_was(text: str) -> None:
    assert rejoined(text) == text


def test_sentences_are_split_but_not_at_abbreviations_and_initials() -> None:
    assert [s.text for s in split("M. Dupont est là. Il dort.", "fr").segments] == ["M. Dupont est là.", "Il dort."]
    german = "Das ist z.B. schön. Am 3. Mai kam er."
    assert [s.text for s in split(german, "de").segments] == ["Das ist z.B. schön.", "Am 3. Mai kam er."]


def test_marks_and_numbers_without_words_are_left_alone() -> None:
    passage = split("- one\n- two\n1999\n***\n", "en")
    assert [s.text for s in passage.segments] == ["one", "two"]
    assert [s.before for s in passage.segments] == ["- ", "\n- "]
    assert passage.tail == "\n1999\n***\n"


def test_a_paragraph_wrapped_at_a_width_is_one_text_and_wrapped_again() -> None:
    text = "This paragraph was wrapped at a width by a mail program,\nas people did. A new sentence."
    passage = split(text, "en")
    assert len(passage.segments) == 2
    again = passage.join(["Dieser Absatz wurde von einem Mailprogramm umbrochen, wie man es tat.", "Ein neuer Satz."])
    assert again.count("\n") == 1
    assert "\n" in again[30:60]


def test_very_long_sentences_are_cut() -> None:
    text = ", ".join(f"word number {i}" for i in range(200))
    passage = split(text, "en")
    assert all(len(segment.text) <= LONGEST for segment in passage.segments)
    assert rejoined(text) == text


@pytest.mark.parametrize("space", ["\u00a0", "\u202f", "\u2009", "\u3000"])
@pytest.mark.parametrize("language", ["en", "de", "fr", "es"])
def test_no_space_of_any_kind_breaks_the_splitter(space: str, language: str) -> None:
    text = f"Vitamin{space}C{space}. It helps. Henry V{space}. He{space}!"
    passage = split(text, language)
    assert passage.join([segment.text for segment in passage.segments]) == text


def test_a_segment_that_is_too_long_is_halved_at_spaces() -> None:
    text = "- one two three four five six seven eight. Short."
    passage = split(text, "en").cut(lambda part: len(part) > 12)
    assert all(len(segment.text) <= 12 for segment in passage.segments)
    assert passage.join([segment.text for segment in passage.segments]) == text
    assert split("abcdefgh", "en").cut(lambda part: len(part) > 2).join(["a"] * 4) == "aaaa"


ADDRESS = "https://example.com/" + "a1-b_c2/" * 60


@pytest.mark.parametrize("text", [f"You will find it at {ADDRESS}x if you look. ", f"{ADDRESS}x " * 3, ADDRESS * 9])
def test_an_address_is_never_cut(text: str) -> None:
    found = split(f"{text}{'and so on, ' * 60}until the end.", "en")
    assert len(found.segments) > 1
    assert rejoined(text) == text
    halved = found.cut(lambda part: len(re.sub(r"https\S+", "", part)) > 40)
    for passage in (found, halved):
        pieces = [segment.before + segment.text for segment in passage.segments]
        assert sum(piece.count(ADDRESS) for piece in pieces) == text.count(ADDRESS)
    assert halved.join([segment.text for segment in halved.segments]).startswith(text)


def test_a_list_of_long_lower_case_lines_is_taken_apart_in_time() -> None:
    text = "a line in lower case that is longer than forty characters\n" * 20_000
    assert len(split(text, "en").segments) >= 1


def test_columns_are_texts_of_their_own() -> None:
    assert [s.text for s in split("Good apples\tare red\n", "en").segments] == ["Good apples", "are red"]


def test_many_initials_are_taken_apart_in_time() -> None:
    text = "Ab. " * 100_000
    assert rejoined(text).split() == text.split()


def test_a_wrapped_text_is_not_wrapped_within_code() -> None:
    source = "This line is surely longer than forty characters so please run\nthe command now."
    passage = split(source, "en")
    (again,) = [passage.join(["Bitte `git commit --amend --no-edit --all --message hello` nun ausführen."])]
    assert "`git commit --amend --no-edit --all --message hello`" in again
    assert again.count("\n") == 1
