"""A sentence on its way through a translator: to pieces and marks, and back to words in their places."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mlcore.fields import Integer, List, Number, Record, Text
from mlcore.passages import Segment
from mlcore.placeholders import Protected, outside_marks, protect
from mlcore.subwords import SubwordTokenizer
from mlcore.task import JSON, Cell

_BLANKS = re.compile(r"[ \t\r\n\f\v]+")
_SEEN = 0.25  # attention from which on a source word is named
LONGEST = 240  # tokens of a sentence; `passages.LONGEST` characters are fewer but for odd scripts
_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffd]")


_TOKEN = Record(
    fields={
        "text": Text(title="Word"),
        "start": Integer(title="Start", minimum=0),
        "end": Integer(title="End", minimum=0),
    }
)
_SCORE = Number(title="Score", help="Log-probability, length-normalised; nearer to 0 is surer.")
SEGMENT = Record(
    fields={
        "before": Text(title="What stands before it", help="Kept as it is.", allow_blank=True),
        "source": Text(title="Source"),
        "target": Text(title="Translation", allow_blank=True),
        "score": _SCORE,
        "alternatives": List(
            title="Alternatives", of=Record(fields={"text": Text(title="Translation"), "score": _SCORE})
        ),
        "source_tokens": List(title="Source words", of=_TOKEN),
        "target_tokens": List(title="Target words", of=_TOKEN),
        "attention": List(title="Attention", of=List(of=Number(minimum=0, maximum=1.01))),
    }
)


@dataclass(frozen=True)
class Sentence:
    """A segment of a text: on one line, with what must not be translated behind marks."""

    before: str  # what stands before it in the text
    text: str
    protected: Protected
    capitals: bool  # whether it shouts: capitals are translated as small letters, and put back

    @classmethod
    def of(cls, segment: Segment, source: str, target: str, glossary: Sequence[Sequence[str]]) -> Sentence:
        """A segment to be translated from one language to another."""
        text = _BLANKS.sub(" ", segment.text)  # a no-break space inside a number stays
        capitals = text.isupper() and len(text.split()) > 1
        return cls(segment.before, text, protect(text, source, target, glossary), capitals)

    def encode(self, tokenizer: SubwordTokenizer, target: str) -> list[int]:
        """The symbol of the target language, the pieces, eos."""
        marked = self.protected.text
        if self.capitals:
            marked = outside_marks(marked, str.lower)
            marked = marked[:1].upper() + marked[1:]
        return [tokenizer.language_id(target), *tokenizer.encode(marked)[:LONGEST], tokenizer.eos_id]

    def decode(self, tokenizer: SubwordTokenizer, tokens: Sequence[int]) -> str:
        """A translation as text; what it lacks of the marks stands behind it, and where it is empty the source."""
        marked = tokenizer.decode(tokens)
        words = [*self._shown(self.protected.tightened(marked)).split(" "), *self.protected.missing(marked)]
        return " ".join(words).strip() or self.text

    def _shown(self, marked: str) -> str:
        """What a marked piece of the translation looks like in the end."""
        clean = " ".join(_NO_TEXT.sub("", marked).split())  # control characters are no text, databases refuse them
        return self.protected.restore(outside_marks(clean, str.upper) if self.capitals else clean)

    def opened(self, tokenizer: SubwordTokenizer, source: Sequence[int], raw: JSON, *, alternatives: int) -> JSON:
        """The translation, others, and the words of both sides with their attention.

        `source` are the ids that were read, `raw` the model's hypotheses [(tokens, score)] and attention (T, S).
        """
        tokens, score = raw["hypotheses"][0]
        target = self.decode(tokenizer, tokens)
        others: list[JSON] = []
        for ids, other_score in raw["hypotheses"][1:]:
            text = self.decode(tokenizer, ids)
            if len(others) < alternatives and text not in (target, self.text, *(other["text"] for other in others)):
                others.append({"text": text, "score": round(other_score, 4)})
        source_words, source_owner = _words(tokenizer, source[1:-1], self.protected.original)
        target_words, target_owner = _words(tokenizer, tokens, self._shown)
        target_words += self.protected.missing(tokenizer.decode(tokens))
        return {
            "before": self.before,
            "source": self.text,
            "target": target,
            "score": round(score, 4),
            "alternatives": others,
            "source_tokens": _placed(source_words, self.text),
            "target_tokens": _placed(target_words, target),
            "attention": _by_words(raw["attention"], target_owner, source_owner, len(target_words), len(source_words)),
        }


def _words(tokenizer: SubwordTokenizer, ids: Sequence[int], shown: Callable[[str], str]) -> tuple[list[str], list[int]]:
    """Words of pieces as they are shown, and for each piece the number of its word."""
    groups: list[list[int]] = []
    owners: list[int] = []
    for index, piece in zip(ids, tokenizer.pieces(ids), strict=True):
        if piece.startswith(" ") or not groups:
            groups.append([])
        groups[-1].append(index)
        owners.append(len(groups) - 1)
    words = [shown(tokenizer.decode(group)).strip() for group in groups]
    # a space that is a piece of its own opens the word behind it
    kept = [place for place, word in enumerate(words) if word]
    if not kept:
        return [], []
    number = {place: min(len(kept) - 1, sum(other < place for other in kept)) for place in range(len(words))}
    return [words[place] for place in kept], [number[owner] for owner in owners]


def _placed(words: Sequence[str], text: str) -> list[JSON]:
    """Words with their places in a text, in order; one that a normalised form hides has the place before it."""
    found: list[JSON] = []
    at = 0
    for word in words:
        start = text.find(word, at)
        if start < 0:
            found.append({"text": word, "start": at, "end": at})
            continue
        at = start + len(word)
        found.append({"text": word, "start": start, "end": at})
    return found


def _by_words(
    attention: Sequence[Sequence[float]], targets: Sequence[int], sources: Sequence[int], height: int, width: int
) -> list[list[float]]:
    """Attention of pieces (T, S), language symbol and eos among the source, to words: mean over pieces of a target
    word, sum over those of a source word."""
    table = np.zeros((height, width))
    counts = np.zeros(height)
    for row, target in zip(attention, targets, strict=False):
        counts[target] += 1
        for share, source in zip(row[1:], sources, strict=False):
            table[target, source] += share
    table /= np.maximum(counts, 1)[:, None]
    return [[round(float(value), 2) for value in row] for row in table]


def origins(text: str, segments: Sequence[JSON]) -> list[Cell]:
    """Each word of a translated text with the source words that it looked at; part and step are its place."""
    cells: list[Cell] = []
    at = 0
    for part, segment in enumerate(segments):
        begins = at + len(segment["before"])  # words there may be the same as the translation's
        begins, over = _place(text, segment["target"], begins)
        cells += _kept(text, at, begins)
        at = begins
        for step, (token, row) in enumerate(zip(segment["target_tokens"], segment["attention"], strict=True)):
            start = text.find(token["text"], at)
            if start < 0:
                continue
            cells += _kept(text, at, start, part)
            at = start + len(token["text"])
            cells.append(Cell(start, at, 0.0, _origin(segment, row), part, step))
        ends = max(at, over)
        cells += _kept(text, at, ends, part)
        at = ends
    return cells + _kept(text, at, len(text))


def _place(text: str, target: str, begins: int) -> tuple[int, int]:
    """From where to where a translation stands in its text, where it may have been wrapped into lines."""
    if text.startswith(target, begins):
        return begins, begins + len(target)
    if found := re.compile(r"\s+".join(map(re.escape, target.split(" ")))).match(text, begins):
        return found.span()
    start = text.find(target, begins)
    return (start, start + len(target)) if start >= 0 else (begins, begins)


def _origin(segment: JSON, row: Sequence[float]) -> str:
    """What a word of a translation came from, in words; `row` is its attention to the source words."""
    seen = [token["text"] for token, share in zip(segment["source_tokens"], row, strict=False) if share >= _SEEN]
    return f"from “{' … '.join(seen)}”" if seen else "from no single word"


def _kept(text: str, start: int, end: int, part: int | None = None) -> list[Cell]:
    """What stands between translated words: list marks, numbers, whatever was left alone; of a sentence or of none."""
    return [
        Cell(start + match.start(), start + match.end(), 0.0, "kept as it is", part)
        for match in re.finditer(r"\S+", text[start:end])
    ]
