"""Words with their places in the text, and the sentencepiece vocabulary over them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from mlcore.pieces import PieceVocabulary, train_pieces

# Penn-style words, so that "can't" typed by a person and "ca n't" in a treebank are the same
# tokens. A run of one repeated mark ("!!!") and an emoticon (":-)") are words of their own.
_WORD = re.compile(
    r"""
      https?://\S+
    | (?<!\w)[:;=]['^-]?[()DPp/\\|\[\]*]+
    | [@\#]?\w+?(?=n['’]t\b)
    | n['’]t\b
    | ['’](?:s|re|ve|ll|d|m)\b
    | [@\#]?\w+
    | ([^\w\s])\1*
    """,
    re.IGNORECASE | re.VERBOSE,
)
_CLITIC = re.compile(r"(?:n['’]t|['’](?:s|re|ve|ll|d|m))\Z", re.IGNORECASE)
_ADDRESS = ("http://", "https://")
_MAX_WORD = 64  # characters; a longer run of letters is read in slices of this size


@dataclass(frozen=True, slots=True)
class Word:
    """`text == source[start:end]`; offsets count Unicode code points of the source."""

    text: str
    start: int
    end: int


def split_words(text: str) -> list[Word]:
    """Words and marks of `text` in order; what lies between them is white space only."""
    words: list[Word] = []
    for match in _WORD.finditer(text):
        size = len(match[0]) if match[0][:8].lower().startswith(_ADDRESS) else _MAX_WORD
        for start in range(match.start(), match.end(), size):
            end = min(start + size, match.end())
            words.append(Word(text[start:end], start, end))
    return words


def is_clitic(word: str) -> bool:
    """Whether a word leans on the one before it ("n't", "'s"), to be shown with it."""
    return _CLITIC.match(word) is not None


def normalise_word(word: str) -> str:
    """The form that the vocabulary sees: case folded, web addresses and handles made alike."""
    if word[:8].lower().startswith(_ADDRESS):
        return "http"
    if word.startswith("@") and len(word) > 1:
        return "@user"
    return word.replace("’", "'").casefold()


def vocabulary_line(text: str) -> str:
    """A text as the vocabulary is trained on it: its normalised words with one space between."""
    return " ".join(normalise_word(word.text) for word in split_words(text))


class WordTokenizer(PieceVocabulary):
    """A sentencepiece unigram model (Kudo 2018, https://arxiv.org/abs/1804.10959) applied word by word.

    Words are encoded apart, so each piece belongs to exactly one word and so to a place in the text.
    Ids 0 to 3 are pad, unk, bos and eos.
    """

    @cached_property
    def _encode_word(self):  # type: ignore[no-untyped-def]
        processor = self._processor
        return lru_cache(maxsize=100_000)(lambda word: tuple(processor.encode(word)))

    def encode(self, words: Sequence[Word]) -> tuple[list[int], list[int]]:
        """Ids of all pieces, and for each piece the index of the word that it belongs to."""
        ids: list[int] = []
        owners: list[int] = []
        for index, word in enumerate(words):
            pieces = self._encode_word(normalise_word(word.text)) or (self.unk_id,)
            ids.extend(pieces)
            owners.extend([index] * len(pieces))
        return ids, owners

    @classmethod
    def train(cls, texts: Iterable[str], *, vocab_size: int, seed_sentences: int = 400_000) -> WordTokenizer:
        """Train a unigram vocabulary of `vocab_size` pieces on `texts`."""
        model = train_pieces(
            (line for line in map(vocabulary_line, texts) if line),
            vocab_size=vocab_size,
            character_coverage=0.9999,
            normalization_rule_name="nmt_nfkc",
            sentences=seed_sentences,
        )
        return cls(model)


_CAPTION_WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*")


def caption_words(text: str) -> list[str]:
    """Lower-case words of a caption without its punctuation: what captioners learn, and what captions are scored on."""
    return _CAPTION_WORD.findall(text.lower().replace("’", "'"))


class Vocabulary:
    """Whole words and their ids. Ids 0 to 3 are pad, unk, bos and eos; what is not known is unk."""

    pad_id, unk_id, bos_id, eos_id = 0, 1, 2, 3
    special = ("<pad>", "<unk>", "<bos>", "<eos>")

    def __init__(self, words: Sequence[str]) -> None:
        self.words = [*self.special, *words]
        self.ids = {word: index for index, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, words: Iterable[str]) -> list[int]:
        """Ids of words."""
        return [self.ids.get(word, self.unk_id) for word in words]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Words of ids, the special ones left out."""
        return [self.words[index] for index in ids if index >= len(self.special)]

    def to_bytes(self) -> bytes:
        """One word a line, the special ones left out."""
        return "\n".join(self.words[len(self.special) :]).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Vocabulary:
        """The opposite of `to_bytes`."""
        return cls(data.decode().split("\n"))

    @classmethod
    def train(cls, texts: Iterable[Sequence[str]], *, min_count: int) -> Vocabulary:
        """The words that come at least `min_count` times, the most frequent first."""
        counts = Counter(word for words in texts for word in words)
        ranked = sorted((word for word, count in counts.items() if count >= min_count), key=lambda w: (-counts[w], w))
        return cls(ranked)
