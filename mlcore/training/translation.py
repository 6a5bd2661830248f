"""Sentence pairs as batches, their loss, and translating plain lists of sentences with a model in training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlcore.decoding import length_factor
from mlcore.models.attention_translator import Model
from mlcore.placeholders import protect
from mlcore.subwords import SubwordTokenizer
from mlcore.training.data import bucket_batches, padded_length
from mlcore.training.losses import blockwise_cross_entropy
from mlcore.training.parallel_text import Pair

Batch = dict[str, Tensor]
Row = tuple[NDArray[np.int32], NDArray[np.int32]]  # source and target
LABEL_SMOOTHING = 0.1
LONGEST = 112  # tokens of a training sentence
SAMPLED = 0.5  # of the sides of pairs that are cut into pieces at random (subword regularisation)
ALPHA = 0.5  # at 0.3 sentences get 27 % longer, at 0.5 9 %


class PairBatches:
    """Both directions of all pairs, each corpus at its share, in batches of like length.

    `tokens_per_batch` is that of each epoch, the last one for all later ones: small batches learn faster at first.
    `keep` begins the names of the files that hold each epoch's pieces: sentencepiece draws others in another process,
    and a run that is resumed must find the same batches.
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
        keep: Path | None = None,
    ) -> None:
        self.keep = keep
        self.tokenizer, self.tokens_per_batch, self.seed, self.sampled = tokenizer, tokens_per_batch, seed, sampled
        self.pairs = [pair for name in shares for pair in corpora[name]]
        self.counts = [(shares[name], len(corpora[name])) for name in shares]
        self.symbols = {code: tokenizer.language_id(code) for code in {"en", *(pair.language for pair in self.pairs)}}

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
        return np.concatenate([np.stack([pairs, np.full_like(pairs, way)], axis=1) for way in (0, 1)])

    def epoch(self, number: int, *, skip: int) -> Iterator[Batch]:
        """Batches of source (B, S) with lengths (B,), and target (B, T) from language symbol to eos.

        All sentences are cut first: batches are made of the lengths that they then have, or half of each is padding.
        """
        generator = np.random.default_rng([self.seed, number])
        drawn = self._draw(generator)
        sampled = generator.random((len(drawn), 2)) < self.sampled
        rows = [row for row in self._cut(number, drawn, sampled) if max(map(len, row)) <= LONGEST]
        lengths = np.array([(len(source), len(target)) for source, target in rows]).reshape(-1, 2)
        batches = bucket_batches(
            lengths.max(axis=1).tolist(),
            tokens_per_batch=self.tokens_per_batch[min(number, len(self.tokens_per_batch) - 1)],
            max_rows=512,
            generator=generator,
            neighbours=(lengths[:, 0] - lengths[:, 1]).tolist(),
        )
        for indices in batches[skip:]:
            sources, targets = zip(*(rows[i] for i in indices), strict=True)
            counts = torch.tensor([len(source) for source in sources])
            yield {"source": pad(sources), "lengths": counts, "target": pad(targets)}

    def _cut(self, number: int, drawn: NDArray[np.int64], sampled: NDArray[np.bool_]) -> list[Row]:
        """Every drawn pair as pieces: those that an earlier process kept, else newly cut ones."""
        path = self.keep and self.keep.with_name(f"{self.keep.name}-{number}.npz")
        if path is not None and path.exists():
            with np.load(path) as kept:
                pieces, lengths = kept["pieces"], kept["lengths"]
            if len(lengths) == 2 * len(drawn):  # else shares were changed since
                sides = np.split(pieces, np.cumsum(lengths)[:-1])
                return list(zip(sides[::2], sides[1::2], strict=True))
        sentencepiece.set_random_generator_seed(self.seed * 1_000 + number)
        rows = [self._encode(int(pair), int(way), sides) for (pair, way), sides in zip(drawn, sampled, strict=True)]
        if path is not None and rows:
            before = path.with_name(f"{self.keep.name}-{number - 1}.npz")  # type: ignore[union-attr]
            for old in path.parent.glob(f"{self.keep.name}-*.npz"):  # type: ignore[union-attr]
                if old != before:  # the last checkpoint may lie in that epoch still
                    old.unlink()
            flat = [side for row in rows for side in row]
            partial = path.with_suffix(".part")
            with partial.open("wb") as file:
                np.savez(file, pieces=np.concatenate(flat), lengths=np.array([len(side) for side in flat]))
            partial.rename(path)
        return rows

    def _encode(self, index: int, way: int, sampled: NDArray[np.bool_]) -> Row:
        """Source and target of a pair, both from the target's language symbol to eos."""
        pair = self.pairs[index]
        texts = (pair.other, pair.english) if way else (pair.english, pair.other)
        symbol, eos = self.symbols["en" if way else pair.language], self.tokenizer.eos_id
        pieces = [
            self.tokenizer.sample(text, ALPHA) if drawn else self.tokenizer.encode(text)
            for text, drawn in zip(texts, sampled, strict=True)
        ]
        source, target = (np.array([symbol, *ids, eos], dtype=np.int32) for ids in pieces)
        return source, target


def pad(rows: Sequence[Sequence[int] | NDArray[np.int32]]) -> Tensor:
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
    return [text for text, _ in scored_translations(model, tokenizer, texts, source, target, beam_size=beam_size)]


def scored_translations(
    model: Model, tokenizer: SubwordTokenizer, texts: Sequence[str], source: str, target: str, *, beam_size: int
) -> list[tuple[str, float]]:
    """As `translate`, each with its log-probability a token, the search's reward for coverage included."""
    protected = [protect(text, source, target) for text in texts]
    symbol = tokenizer.language_id(target)
    rows = [[symbol, *ids[:240], tokenizer.eos_id] for ids in tokenizer.encode_all([p.text for p in protected])]
    answers = [("", 0.0)] * len(rows)
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    with torch.inference_mode():
        for start in range(0, len(order), 64):
            chosen = order[start : start + 64]
            lengths = torch.tensor([len(rows[i]) for i in chosen])
            found = model.translate(pad([rows[i] for i in chosen]), lengths, beam_size=beam_size)
            for i, hypotheses in zip(chosen, found, strict=True):
                best = hypotheses[0]
                length = len(best.tokens) + 1  # with eos
                mean = best.score * length_factor(length, model.config.length_penalty) / length
                answers[i] = protected[i].restore(tokenizer.decode(best.tokens)), mean
    return answers
