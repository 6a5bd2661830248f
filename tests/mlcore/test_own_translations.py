"""Captions that a translator translates for itself: which, and what is kept."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from mlcore.training import own_translations
from mlcore.training.own_translations import captions, own_pairs
from mlcore.training.parallel_text import normalised

ROWS = {
    "coco": [
        ("1", "A dog runs over the wet sand."),
        ("1", "A brown dog plays on a beach."),
        ("1", "One dog is running near some water."),
        ("2", "Too short."),
        ("2", "There are 3 boats on the lake."),
    ],
    "flickr30k": [("a.jpg", "A man in a hat sits down."), ("a.jpg", "Someone is resting on a bench.")],
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with a few captions."""
    folder = tmp_path / "captions_extra"
    folder.mkdir()
    for name, rows in ROWS.items():
        lines = "".join(f"{photo}\t{number}\t{text}\n" for number, (photo, text) in enumerate(rows))
        (folder / f"{name}_text_only.tsv.gz").write_bytes(gzip.compress(lines.encode()))
    return tmp_path


def test_a_photo_gives_two_captions_at_most_and_none_with_figures(data: Path) -> None:
    found = captions(data, number=99, seed=1, without=frozenset())
    assert len(found) == 4
    assert sum("dog" in text.lower() for text in found) == 2
    assert not any("short" in text or "3" in text for text in found)
    assert captions(data, number=2, seed=1, without=frozenset()) == found[:2]


def test_no_caption_of_a_photo_that_is_held_out_is_taken(data: Path) -> None:
    held_out = frozenset({normalised("Someone is resting on a bench")})
    found = captions(data, number=99, seed=1, without=held_out)
    assert len(found) == 2
    assert all("dog" in text for text in found)


def test_the_surest_translations_are_kept_and_none_of_odd_length(monkeypatch: pytest.MonkeyPatch) -> None:
    class Model:
        def eval(self) -> None: ...

    asked: list[tuple[str, str]] = []
    sureness = {"dog": -0.1, "cat": -0.2, "cow": -0.3, "hen": -0.4}

    def scored_translations(*args: Any, beam_size: int) -> list[tuple[str, float]]:
        texts, source, target = args[2:]
        asked.extend((target, text) for text in texts)
        assert (source, beam_size) == ("en", 3)
        return [("x" if "cat" in text else text.upper(), sureness[text.split()[1]]) for text in texts]

    monkeypatch.setattr(own_translations, "scored_translations", scored_translations)
    texts = [f"A {animal} sleeps there." for animal in ("hen", "dog", "cow", "cat", "hen", "cow", "dog")]
    pairs = list(own_pairs(Model(), None, texts, beam_size=3))  # type: ignore[arg-type]
    assert asked == [("de", text) for text in texts[:4]] + [("fr", text) for text in texts[4:]]
    assert [(pair.language, pair.english, pair.other) for pair in pairs] == [
        ("de", texts[1], texts[1].upper()),  # of the surer half the cat's has a single word
        ("fr", texts[5], texts[5].upper()),
        ("fr", texts[6], texts[6].upper()),
    ]
