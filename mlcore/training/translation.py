"""Sentence pairs as batches, their loss, and translating plain lists of sentences with a model in training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import sentencepiece
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlcore.models.attention_translator import Model
from mlcore.placeholders import protect
from mlcore.subwords import SubwordTokenizer
from mlcore.training.data import bucket_batches, padded_length
from mlcore.training.losses import blockwise_cross_entropy
from mlcore.training.parallel_text import Pair

Batch = dict[str, Tensor]
LABEL_SMOOTHING = 0.1
LONGEST = 96  # tokens of a training sentence
SAMPLED = 0.5  # of the sides of pairs that are cut into pieces at random (subword regularisation)
ALPHA = 0.3


class PairBatches:
    """Both directions of all pairs, each corpus at its share, in batches of like length.

    `tokens_per_batch` is that of each epoch, the last one for all later ones: small batches learn faster at first.
    """

    def __init__(
        self,
        corpora: Mapping[str, Sequence[Pair]],
        shares: Mapping[str, float],
        tokenizer: SubwordTokenizer,
        *,
        tokens_per_batch: Sequence[int],
        seed: int,
        sampled: float = SAMPLED,
    ) -> None:
        self.tokenizer, self.tokens_per_batch, self.seed, self.sampled = tokenizer, tokens_per_batch, seed, sampled
        self.pairs = [pair for name in shares for pair in corpora[name]]
        self.counts = [(shares[name], len(corpora[name])) for name in shares]
        self.symbols = {code: tokenizer.language_id(code) for code in {"en", *(pair.language for pair in self.pairs)}}

    @cached_property
    def lengths(self) -> NDArray[np.int32]:
        """(N, 2): tokens of the English and of the other side, a symbol and eos included."""
        sides = ([pair.english for pair in self.pairs], [pair.other for pair in self.pairs])
        counts = [[len(ids) + 2 for ids in self.tokenizer.encode_all(side)] for side in sides]
        return np.array(counts, dtype=np.int32).T

    def _draw(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """(M, 2): pair and direction (1 is into English) of this epoch."""
        chosen: list[NDArray[np.int64]] = []
        first = 0
        for share, count in self.counts:
            whole, part = divmod(share, 1)
            members = np.arange(first, first + count)
            chosen += [members] * int(whole) + [generator.permutation(members)[: int(part * count)]]
            first += count
        pairs = np.concatenate(chosen)
        pairs = pairs[self.lengths[pairs].max(axis=1) <= LONGEST]
        return np.concatenate([np.stack([pairs, np.full_like(pairs, way)], axis=1) for way in (0, 1)])

    def epoch(self, number: int, *, skip: int) -> Iterator[Batch]:
        """Batches of source (B, S) with lengths (B,), and target (B, T) from language symbol to eos."""
        generator = np.random.default_rng([self.seed, number])
        sentencepiece.set_random_generator_seed(self.seed * 1_000 + number)
        drawn = self._draw(generator)
        lengths = self.lengths[drawn[:, 0]]
        batches = bucket_batches(
            lengths.max(axis=1).tolist(),
            tokens_per_batch=self.tokens_per_batch[min(number, len(self.tokens_per_batch) - 1)],
            max_rows=512,
            generator=generator,
        )
        for indices in batches[skip:]:
            yield self._batch(drawn[indices], generator)

    def _batch(self, drawn: NDArray[np.int64], generator: np.random.Generator) -> Batch:
        sources, targets = [], []
        sampled = generator.random((len(drawn), 2)) < self.sampled
        for (index, way), (first, second) in zip(drawn, sampled, strict=True):
            pair = self.pairs[index]
            texts = (pair.other, pair.english) if way else (pair.english, pair.other)
            symbol = self.symbols["en" if way else pair.language]
            source, target = (
                (self.tokenizer.sample(text, ALPHA) if drawn_ else self.tokenizer.encode(text))[: LONGEST + 24]
                for text, drawn_ in zip(texts, (first, second), strict=True)
            )
            sources.append([symbol, *source, self.tokenizer.eos_id])
            targets.append([symbol, *target, self.tokenizer.eos_id])
        lengths = torch.tensor([len(row) for row in sources])
        return {"source": pad(sources), "lengths": lengths, "target": pad(targets)}


def pad(rows: Sequence[Sequence[int]]) -> Tensor:
    """(B, T), zeros behind each row; T one of a few lengths."""
    longest = padded_length(max(map(len, rows)))
    out = np.zeros((len(rows), longest), dtype=np.int64)
    for place, row in zip(out, rows, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(out)


def translation_loss(model: Model, batch: Batch, *, label_smoothing: float = LABEL_SMOOTHING) -> Tensor:
    """Cross-entropy a token of the target, label-smoothed."""
    target = batch["target"]
    found = model(batch["source"], batch["lengths"], target[:, :-1])
    goal = target[:, 1:].flatten()
    real = goal.nonzero()[:, 0]
    loss = blockwise_cross_entropy(
        found.flatten(0, 1)[real], model.embedding.weight, model.bias, goal[real], label_smoothing=label_smoothing
    )
    return loss / len(real)


def translate(
    model: Model, tokenizer: SubwordTokenizer, texts: Sequence[str], source: str, target: str, *, beam_size: int = 1
) -> list[str]:
    """Translations of sentences, marks put in and taken out; what the task does without its splitting."""
    protected = [protect(text, source, target) for text in texts]
    symbol = tokenizer.language_id(target)
    rows = [[symbol, *ids[:240], tokenizer.eos_id] for ids in tokenizer.encode_all([p.text for p in protected])]
    answers = [""] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    with torch.inference_mode():
        for start in range(0, len(order), 64):
            chosen = order[start : start + 64]
            lengths = torch.tensor([len(rows[i]) for i in chosen])
            found = model.translate(pad([rows[i] for i in chosen]), lengths, beam_size=beam_size)
            for i, hypotheses in zip(chosen, found, strict=True):
                answers[i] = protected[i].restore(tokenizer.decode(hypotheses[0].tokens))
    return answers
