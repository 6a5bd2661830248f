"""Words keep their places; people's and treebanks' spelling give the same tokens."""

from __future__ import annotations

import pytest

from mlcore.text import WordTokenizer, normalise_word, split_words


def words(text: str) -> list[str]:
    return [word.text for word in split_words(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I can't.", ["I", "ca", "n't", "."]),
        ("I ca n't .", ["I", "ca", "n't", "."]),
        ("it's fine", ["it", "'s", "fine"]),
        ("@user thanks :( #fail", ["@user", "thanks", ":(", "#fail"]),
        ("see https://example.org/a?b=c now", ["see", "https://example.org/a?b=c", "now"]),
        ("so good!!!", ["so", "good", "!!!"]),
        ("", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_nothing_but_white_space_is_left_out() -> None:
    text = "Well — it's 3.5 °C, «isn't it»?\n\n🙂🙂 e\u0301"
    left, place = [], 0
    for word in split_words(text):
        assert text[word.start : word.end] == word.text
        left.append(text[place : word.start])
        place = word.end
    assert not "".join([*left, text[place:]]).strip()


def test_addresses_and_handles_are_made_alike() -> None:
    assert [normalise_word(w) for w in ("https://x.org", "@Anna", "GREAT", "Don’t")] == [
        "http",
        "@user",
        "great",
        "don't",
    ]


def test_a_long_address_is_one_word() -> None:
    address = "HTTPS://example.com/" + "terrible-awful/" * 20
    assert words(f"See {address} now") == ["See", address, "now"]
    assert normalise_word(address) == "http"


def test_pieces_know_their_words() -> None:
    tokenizer = WordTokenizer.train(["the cat sat on the mat"] * 30, vocab_size=40)
    ids, owners = tokenizer.encode(split_words("the cat 🙂"))
    assert owners == sorted(owners)
    assert set(owners) == {0, 1, 2}
    assert len(ids) == len(owners)
