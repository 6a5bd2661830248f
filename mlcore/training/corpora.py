"""The sentiment sets of the data folder, each with its labels brought to negative / neutral / positive.

Layout (`sentiment/NAME.tsv.xz`, TAB separated, text last): imdb.train (label, stars, text; Maas et al. 2011,
ai.stanford.edu/~amaas/data/sentiment), imdb.unsup.txt, sst2.dev, sst5.train, sst5.train_phrases (Socher et al. 2013,
nlp.stanford.edu/sentiment), mr.all (label, overlap with SST, text; Pang & Lee 2005), cr.train (Hu & Liu 2004),
amazon_mds.train (stars, domain, title, text; Blitzer et al. 2007), semeval2017_3class.{train,dev} (Rosenthal et
al. 2017), goemotions.train (Demszky et al. 2020), phrasebank50.train (Malo et al. 2014).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mlcore.errors import InvalidInput
from mlcore.training.data import read_lines, read_table

LABELS = ("negative", "neutral", "positive")
NEGATIVE, NEUTRAL, POSITIVE = range(3)
IMDB_DEV = 2_000  # reviews held out of imdb.train; the set names no films, so the choice is random

_POSITIVE_EMOTIONS = frozenset(
    "admiration amusement approval caring desire excitement gratitude joy love optimism pride relief".split()  # noqa: SIM905
)
_NEGATIVE_EMOTIONS = frozenset(
    "anger annoyance disappointment disapproval disgust embarrassment fear grief nervousness remorse sadness".split()  # noqa: SIM905
)


@dataclass(frozen=True, slots=True)
class Example:
    """A text with its class; `binary` where the set knows no neutral, so that neutral is not judged."""

    text: str
    target: int
    binary: bool
    weight: float = 1.0


@dataclass(frozen=True)
class Source:
    """A training set and how much of it one epoch sees (0.5: a fresh half, 2.0: twice)."""

    name: str
    share: float
    examples: list[Example]


def _table(folder: Path, name: str) -> list[list[str]]:
    path = folder / "sentiment" / f"{name}.tsv.xz"
    if not path.exists():
        raise InvalidInput("data", f"{path} is missing. The data folder needs sentiment/{name}.tsv.xz.")
    return list(read_table(path))


def _binary(rows: list[list[str]]) -> list[Example]:
    return [Example(row[-1], POSITIVE if row[0] == "1" else NEGATIVE, True) for row in rows]


def _ternary(rows: list[list[str]]) -> list[Example]:
    return [Example(row[-1], LABELS.index(row[0]), False) for row in rows]


def _fine(rows: list[list[str]]) -> list[Example]:
    classes = (NEGATIVE, NEGATIVE, NEUTRAL, POSITIVE, POSITIVE)
    return [Example(row[-1], classes[int(row[0])], False) for row in rows]


def _emotions(rows: list[list[str]]) -> list[Example]:
    examples = []
    for labels, text in rows:
        names = set(labels.split(","))
        good, bad = bool(names & _POSITIVE_EMOTIONS), bool(names & _NEGATIVE_EMOTIONS)
        if good != bad:
            examples.append(Example(text, POSITIVE if good else NEGATIVE, False))
        elif names == {"neutral"}:
            examples.append(Example(text, NEUTRAL, False))
    return examples


def _balanced(examples: list[Example], power: float = 0.8) -> list[Example]:
    """Weights that raise rare classes: macro-recall counts each class alike."""
    counts = np.bincount([example.target for example in examples], minlength=len(LABELS)).clip(1)
    weights = (counts.mean() / counts) ** power
    return [replace(example, weight=float(weights[example.target])) for example in examples]


def _imdb(folder: Path) -> tuple[list[Example], list[Example]]:
    """Train and dev: a fixed random 2,000 of imdb.train are held out (fewer of a smaller file)."""
    examples = _binary(_table(folder, "imdb.train"))
    order = np.random.default_rng(2011).permutation(len(examples))
    held_out = min(IMDB_DEV, len(examples) // 5)
    return [examples[i] for i in order[held_out:]], [examples[i] for i in order[:held_out]]


def training_sources(folder: Path) -> list[Source]:
    """All training sets; sentences of MR that stand in SST's dev or test are left out."""
    mr = [row for row in _table(folder, "mr.all") if row[1] not in ("sst_dev", "sst_test")]
    amazon = [
        Example(f"{title}. {text}", POSITIVE if int(stars) > 3 else NEGATIVE, True)
        for stars, _, title, text in _table(folder, "amazon_mds.train")
    ]
    return [
        Source("IMDB", 1.0, _imdb(folder)[0]),
        Source("Amazon multi-domain", 1.0, amazon),
        Source("SST-5 sentences", 2.0, _fine(_table(folder, "sst5.train"))),
        Source("SST-5 phrases", 0.5, _fine(_table(folder, "sst5.train_phrases"))),
        Source("MR", 1.0, _binary(mr)),
        Source("CR", 2.0, _binary(_table(folder, "cr.train"))),
        Source("SemEval-2017", 2.0, _balanced(_ternary(_table(folder, "semeval2017_3class.train")))),
        Source("GoEmotions", 0.5, _emotions(_table(folder, "goemotions.train"))),
        Source("PhraseBank", 1.0, _ternary(_table(folder, "phrasebank50.train"))),
        *_feedback(folder),
    ]


def _feedback(folder: Path) -> list[Source]:
    """What people corrected on a server, where its export lies in the data folder."""
    name = "feedback.train"
    there = (folder / "sentiment" / f"{name}.tsv.xz").exists()
    return [Source("Feedback", 4.0, _ternary(_table(folder, name)))] if there else []


def dev_sets(folder: Path) -> dict[str, list[Example]]:
    """The sets that scores are reported on."""
    return {
        "imdb": _imdb(folder)[1],
        "sst2": _binary(_table(folder, "sst2.dev")),
        "semeval2017": _ternary(_table(folder, "semeval2017_3class.dev")),
    }


def test_sets(folder: Path) -> dict[str, list[Example]]:
    """The official test splits, for those who have them; nothing is tuned on these."""
    readers: dict[str, tuple[str, Callable[[list[list[str]]], list[Example]]]] = {
        "imdb": ("imdb.test", _binary),
        "sst2": ("sst2.test", _binary),
        "semeval2017": ("semeval2017_3class.test", _ternary),
    }
    return {name: read(_table(folder, file)) for name, (file, read) in readers.items()}


def unlabelled_texts(folder: Path) -> list[str]:
    """Texts for language-model pre-training: reviews and posts, dev texts not among them."""
    path = folder / "sentiment" / "imdb.unsup.txt.xz"
    if not path.exists():
        raise InvalidInput("data", f"{path} is missing. The data folder needs sentiment/imdb.unsup.txt.xz.")
    texts = list(read_lines(path))
    for source in training_sources(folder):
        if source.name in ("IMDB", "Amazon multi-domain", "SemEval-2017", "MR", "GoEmotions"):
            texts += [example.text for example in source.examples]
    return texts
