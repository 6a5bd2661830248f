"""Sentence pairs from a data folder: `translation/en-<xx>/<split>.<corpus>.tsv.xz`, English TAB the other language.

Official homes: tatoeba.org (through manythings.org/anki), multi30k/dataset, statmt.org (news, Europarl), the Tico-19,
XQuAD, PUD, MLQE-PE, BConTrasT and XDailyDialog projects, Wiktionary (open-dsl-dict/wiktionary-dict).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlcore.placeholders import COUNT, protect_pair
from mlcore.training.data import read_table

LANGUAGES = ("en", "de", "fr", "es")
NAMES_MARKED = 0.06  # of the words that both sides share
# corpus -> terms, for the card
TERMS: Mapping[str, str] = {
    "feedback": "corrections by the people of a server",
    "own_captions": "COCO's captions (CC BY 4.0) and Flickr30k's (research), translated by the bundle before",
    "multi30k": "Elliott et al. 2016; research, non-commercial (Flickr30k's captions)",
    "tatoeba": "tatoeba.org, CC BY 2.0 FR",
    "news": "WMT's news test sets up to 2021; research",
    "europarl": "Koehn 2005; no known restrictions",
    "bcontrast": "Unbabel's BConTrasT, CC BY-SA 4.0",
    "xdailydialog": "Liu et al. 2023; non-commercial (DailyDialog, CC BY-NC-SA 4.0)",
    "wmt15_sample": "WMT15's Europarl, CommonCrawl and News Commentary; research",
    "mlqe-pe": "Fomicheva et al. 2022; CC0",
    "xquad": "Artetxe et al. 2020; CC BY-SA 4.0",
    "pud": "Universal Dependencies PUD; CC BY-SA 3.0",
    "tico19": "Anastasopoulos et al. 2020; CC0",
    "pydocs": "translations of Python's documentation; CC0",
    "wiktionary_lexicon": "Wiktionary; CC BY-SA 3.0",
}


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence in English and in another language, marks of `mlcore.placeholders` in both."""

    language: str
    english: str
    other: str


def other_languages() -> tuple[str, ...]:
    """All languages but English."""
    return LANGUAGES[1:]


def directions() -> list[tuple[str, str]]:
    """(source, target) of all directions."""
    return [pair for code in other_languages() for pair in (("en", code), (code, "en"))]


def read_pairs(data: Path, language: str, split: str, corpus: str) -> Iterator[tuple[str, str]]:
    """English and other sentence as they are in the file; none where there is no such file."""
    path = data / "translation" / f"en-{language}" / f"{split}.{corpus}.tsv.xz"
    if path.exists():
        for row in read_table(path):
            if len(row) == 2 and all(row):
                yield unicodedata.normalize("NFC", row[0]), unicodedata.normalize("NFC", row[1])


def normalised(sentence: str) -> str:
    """Letters and digits alone, in lower case: by this sentences are the same."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", sentence).lower()))


def held_out(data: Path) -> frozenset[str]:
    """English sentences of every dev and test set there is, of all languages; generic ones of two words left out.

    One model learns all directions: a sentence held out for one language must not be learned with another.
    """
    found = {
        normalised(row[0])
        for path in sorted((data / "translation").glob("en-*/*.tsv.xz"))
        if not path.name.startswith("train.")
        for row in read_table(path)
        if row
    }
    return frozenset(sentence for sentence in found if len(sentence.split()) > 2)


def training_pairs(
    data: Path, corpus: str, *, seed: int, limit: int = 0, without: frozenset[str] = frozenset()
) -> list[Pair]:
    """All pairs of a corpus that agree on their numbers, addresses and the like; none whose English is `without`."""
    found: list[Pair] = []
    for language in other_languages():
        generator = np.random.default_rng([seed, *corpus.encode(), *language.encode()])
        for number, (english, other) in enumerate(read_pairs(data, language, "train", corpus)):
            if limit and number >= limit:
                break
            if normalised(english) in without:
                continue
            marked = protect_pair(
                english,
                other,
                ("en", language),
                share=lambda: bool(generator.random() < NAMES_MARKED),  # noqa: B023 - called at once
                order=_order(generator),
            )
            if marked:
                found.append(Pair(language, *marked))
    return found


def _order(generator: np.random.Generator) -> list[int]:
    """Numbers of marks from a random one on: low ones are used most, all are learned."""
    start = int(generator.integers(COUNT)) if generator.random() < 0.5 else 0
    return [(start + i) % COUNT for i in range(COUNT)]


def dev_pairs(data: Path, source: str, target: str, name: str, split: str = "dev") -> list[tuple[str, str]]:
    """(source, target) sentences of a dev or test set."""
    language = target if source == "en" else source
    rows = read_pairs(data, language, split, name)
    return [(english, other) if source == "en" else (other, english) for english, other in rows]
