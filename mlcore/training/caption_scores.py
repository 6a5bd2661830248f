"""How captions are scored: BLEU and CIDEr as the field reports them, and CIDEr-D as a reward."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = Sequence[str]


def score(found: Sequence[Words], references: Sequence[Sequence[Words]]) -> dict[str, float]:
    """BLEU-1 to 4 and CIDEr (pycocoevalcap) against each photo's references; words are those of `caption_words`."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider

    answers = {i: [" ".join(words)] for i, words in enumerate(found)}
    truth = {i: [" ".join(words) for words in several] for i, several in enumerate(references)}
    bleu, _ = Bleu(4).compute_score(truth, answers, verbose=0)
    cider, _ = Cider().compute_score(truth, answers)
    return {**{f"bleu{n}": float(value) for n, value in enumerate(bleu, start=1)}, "cider": float(cider)}


def _ngrams(words: Words) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for n in range(1, 5) for i in range(len(words) - n + 1))


class CiderReward:
    """CIDEr-D (Vedantam et al. 2015, https://arxiv.org/abs/1411.5726) with the n-gram rarity of a whole training set.

    The same value as pycocoevalcap's on that set, but a caption can be scored alone: the reward of self-critical
    training.
    """

    def __init__(self, references: Sequence[Sequence[Words]], *, sigma: float = 6.0) -> None:
        self.sigma = sigma
        seen: Counter[tuple[str, ...]] = Counter()
        for several in references:
            seen.update({ngram for words in several for ngram in _ngrams(words)})
        self.photos = math.log(max(2, len(references)))
        self.rarity = {ngram: math.log(max(1, count)) for ngram, count in seen.items()}
        self.references = [[self._vector(words) for words in several] for several in references]

    def _vector(self, words: Words) -> tuple[list[dict[tuple[str, ...], float]], NDArray[np.float64], int]:
        parts: list[dict[tuple[str, ...], float]] = [{} for _ in range(4)]
        for ngram, count in _ngrams(words).items():
            parts[len(ngram) - 1][ngram] = count * (self.photos - self.rarity.get(ngram, 0.0))
        norms = np.array([math.sqrt(sum(value * value for value in part.values())) for part in parts])
        return parts, norms, max(0, len(words) - 1)  # the length is counted in pairs, as the original does

    def __call__(self, photo: int, words: Words) -> float:
        """The reward of a caption for the `photo`-th photo of the set."""
        parts, norms, length = self._vector(words)
        total = np.zeros(4)
        for other, other_norms, other_length in self.references[photo]:
            for n in range(4):
                if norms[n] and other_norms[n]:
                    shared = sum(
                        min(value, other[n][ngram]) * other[n][ngram]
                        for ngram, value in parts[n].items()
                        if ngram in other[n]
                    )
                    penalty = math.exp(-((length - other_length) ** 2) / (2 * self.sigma**2))
                    total[n] += shared / (norms[n] * other_norms[n]) * penalty
        return float(total.mean() / len(self.references[photo]) * 10)


def meteor(found: Sequence[Words], references: Sequence[Sequence[Words]]) -> float:
    """Mean METEOR by nltk's own scorer, exact and stem matches only (its WordNet is not fetched)."""
    from nltk.translate.meteor_score import meteor_score

    class NoSynonyms:
        """Stands for WordNet, which would have to be downloaded."""

        @staticmethod
        def synsets(_: str) -> list[Any]:
            return []

    pairs = zip(found, references, strict=True)
    scores = [meteor_score([list(r) for r in several], list(words), wordnet=NoSynonyms()) for words, several in pairs]
    return float(np.mean(scores))


def self_bleu(answers: Sequence[Sequence[Words]]) -> float:
    """Mean pairwise BLEU-4 (smoothed, nltk) among each photo's captions: 1 where they are all alike."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    smooth = SmoothingFunction().method1
    found = [
        sentence_bleu([list(one)], list(other), smoothing_function=smooth)
        for captions in answers
        for i, one in enumerate(captions)
        for j, other in enumerate(captions)
        if i != j and one and other
    ]
    return float(np.mean(found)) if found else 0.0


def repeats_itself(words: Words) -> bool:
    """Whether a word follows itself or a pair of words comes twice ("a man and a man")."""
    pairs = list(pairwise(words))
    return any(a == b for a, b in pairs) or len(set(pairs)) < len(pairs)
