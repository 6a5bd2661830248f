"""What comes out unchanged: addresses, code, emoji, digits; and what a glossary says."""

from __future__ import annotations

import pytest

from mlcore.placeholders import COUNT, kept_places, localised, outside_marks, protect, protect_pair

KEPT = [
    "https://example.org/a?b=1#c",
    "www.example.org",
    "docs.example.com/a/b",
    "me.too@example.co.uk",
    "@tom_2",
    "#topic",
    "`rm -rf /`",
    "{name}",
    "{{ user }}",
    "%(count)s",
    "%s",
    "<b>",
    "</b>",
    "👍🏽",
    "👩‍👩‍👧",
    "🇩🇪",
    "10:30",
    "12/5/2020",
    "1.2.3.4",
    "/usr/local/bin",
    "x" * 60,
    "https://en.wikipedia.org/wiki/Bank_(finance)",
    "FTP://EXAMPLE.ORG/A",
    "%.2f",
    "%1$s",
    "%5d",
    "<!-- a note -->",
    "snake_case_2",
    "1_000",
    "⏰",
    "▶️",
    "1️⃣",
    "#️⃣",
    "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "5½",
    "¾",
]


@pytest.mark.parametrize("value", KEPT)
def test_it_is_kept(value: str) -> None:
    protected = protect(f"See {value} there", "en", "de")
    assert protected.text == "See <p0> there"
    assert protected.values == (value,)
    assert protected.restore("Siehe <p0> dort") == f"Siehe {value} dort"


@pytest.mark.parametrize(
    ("number", "source", "target", "expected"),
    [
        ("3.5", "en", "de", "3,5"),
        ("3,5", "de", "en", "3.5"),
        ("1,234.50", "en", "de", "1.234,50"),
        ("1.234.567", "de", "en", "1,234,567"),
        ("1\u202f234,5", "fr", "en", "1,234.5"),
        ("2020", "en", "de", "2020"),
        ("12.5.2020", "en", "de", "12.5.2020"),
        ("10:30", "en", "fr", "10:30"),
        ("-3.5", "en", "es", "-3,5"),
        ("3.5-4.5", "en", "de", "3,5-4,5"),
        ("1,234-5,678", "en", "de", "1.234-5.678"),
        ("2026-11-27", "en", "de", "2026-11-27"),
        ("192.168.178.100", "de", "en", "192.168.178.100"),
        ("192.168.178.256", "de", "en", "192,168,178,256"),
    ],
)
def test_digits_stay_and_separators_follow_the_language(number: str, source: str, target: str, expected: str) -> None:
    assert localised(number, source, target) == expected
    digits = [character for character in number if character.isdigit()]
    assert [character for character in expected if character.isdigit()] == digits


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("See section 4.2.", "4.2"),
        ("Version 3.12 is out", "3.12"),
        ("It weighs 3.12 kg", "3,12"),
        ("in room 2.10", "2.10"),
    ],
)
def test_numbers_of_sections_and_versions_are_no_decimals(text: str, value: str) -> None:
    assert protect(text, "en", "de").values == (value,)


def test_the_glossary_wins_over_translation_not_over_what_is_kept() -> None:
    protected = protect("The Dog at dog.example.org and a doghouse", "en", "de", [["dog", "Wauwau"]])
    assert protected.text == "The <p0> at <p1> and a doghouse"
    assert protected.values == ("Wauwau", "dog.example.org")
    assert protected.originals == ("Dog", "dog.example.org")


def test_a_text_that_holds_marks_itself_is_safe() -> None:
    protected = protect("A <p0> and <p99> here", "en", "de")
    assert protected.restore(protected.text) == "A <p0> and <p99> here"
    assert protect("nothing", "en", "de").restore("bad <p3> mark") == "bad  mark"


def test_more_than_there_are_marks_for_stays_in_the_text() -> None:
    text = " ".join(str(1000 + i) for i in range(COUNT + 5))
    protected = protect(text, "en", "de")
    assert len(protected.values) == COUNT
    assert protected.restore(protected.text) == text


def test_what_is_missing_is_told() -> None:
    protected = protect("7 of 9", "en", "de")
    assert protected.missing("<p1>") == ["7"]


def test_pairs_that_disagree_about_numbers_are_no_training_pairs() -> None:
    order = list(range(COUNT))
    assert protect_pair("At 3 pm", "Um 15 Uhr", ("en", "de"), share=lambda: False, order=order) is None
    found = protect_pair("It costs 3.5 euros", "Es kostet 3,5 Euro", ("en", "de"), share=lambda: False, order=[4, 5])
    assert found == ("It costs <p4> euros", "Es kostet <p4> Euro")
    names = protect_pair("Tom sleeps", "Tom schläft", ("en", "de"), share=lambda: True, order=order)
    assert names == ("<p0> sleeps", "<p0> schläft")


def test_only_what_lies_outside_marks_is_changed() -> None:
    assert outside_marks("ab <p0> cd", str.upper) == "AB <p0> CD"


@pytest.mark.parametrize("term", ["Windows 11", "GPT-4", "B2B", "C++", "a.b*c", "@tom"])
def test_terms_with_digits_and_signs_are_found(term: str) -> None:
    protected = protect(f"I use {term} daily, and 7 more.", "en", "de", [[term, "DAS"]])
    assert protected.values == ("DAS", "7")


def test_longer_terms_go_first_and_addresses_before_terms() -> None:
    glossary = [["dog", "Hund"], ["hot dog", "Hotdog"], ["example", "Beispiel"]]
    protected = protect("A hot dog, a dog: https://example.org", "en", "de", glossary)
    assert protected.values == ("Hotdog", "Hund", "https://example.org")


def test_a_value_that_comes_too_seldom_is_missing() -> None:
    protected = protect("7 and 7 and 8", "en", "de")
    assert protected.missing("<p0>") == ["7", "8"]


def test_a_literal_mark_beyond_all_marks_is_no_mark() -> None:
    text = " ".join(str(1000 + i) for i in range(COUNT)) + " <p3> <p99>"
    protected = protect(text, "en", "de")
    assert protected.restore(protected.text).endswith("‹p3› ‹p99›")
    assert protected.missing(protected.text) == []


@pytest.mark.parametrize("term", ["Straße", "STRASSE", "İstanbul", "straße"])
def test_terms_are_found_whose_small_letters_are_more(term: str) -> None:
    protected = protect(f"Die {term} ist lang", "de", "en", [[term, "Boulevard"]])
    assert protected.restore(protected.text) == "Die Boulevard ist lang"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("The value is <5 and x<10.", ("5", "10")),
        ("20 m² and 10⁶", ("20", "²", "10⁶")),
        ("GPT-3.5, v2.0 and 2.5 times", ("3.5", "2.0", "2,5")),
        ("50% discount", ("50",)),
        ("an _emphasis_ here", ()),
        ("See [the guide](docs/guide.md) and [x](y)", ("(docs/guide.md)", "(y)")),
        ("It (really) works", ()),
    ],
)
def test_what_is_kept_of_a_sentence(text: str, values: tuple[str, ...]) -> None:
    assert protect(text, "en", "de").values == values


def test_tags_hold_no_spaces_that_the_source_does_not_hold() -> None:
    protected = protect("Press the <g1>red</g1> button <b> now </b>", "en", "de")
    assert protected.text == "Press the <p0>red<p1> button <p2> now <p3>"
    assert protected.tightened("Die <p0> rote <p1> Taste <p2> jetzt <p3>") == "Die <p0>rote<p1> Taste <p2> jetzt <p3>"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("unit", ["%0", "0", "%", "%0$", "%-", ".0", "{", "<a", "@_", "`", "a_", "1.", "://"])
def test_long_repetitions_are_looked_through_once(unit: str) -> None:
    kept_places("abc %" + unit * (20_000 // len(unit)))


@pytest.mark.parametrize("text", ["HTTP/1.1", "8.30am", "8.30 p.m.", "8.30-9.45 pm"])
def test_numbers_of_versions_and_clocks_are_no_decimals(text: str) -> None:
    (value,) = protect(f"It is {text} here", "en", "de").values
    assert value in text


@pytest.mark.parametrize(
    ("text", "source", "value"),
    [("Es kamen 1.234 am Montag.", "de", "1,234"), ("2,5 am Freitag", "de", "2.5"), ("pro kg/2,50 Euro", "de", "2.50")],
)
def test_a_number_before_a_small_word_or_behind_a_rate_is_one(text: str, source: str, value: str) -> None:
    assert protect(text, source, "en").values == (value,)
