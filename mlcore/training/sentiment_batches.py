"""Labelled texts as batches, and the loss over sets that know two or three classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mlcore import batching
from mlcore.models.lstm_classifier import Model
from mlcore.text import WordTokenizer, split_words
from mlcore.training.corpora import NEUTRAL, Example
from mlcore.training.data import bucket_batches, padded_length

LONGEST = 400  # tokens of a training example; longer reviews are cropped in training, read whole in use


@dataclass(frozen=True)
class Encoded:
    """An example as ids, wrapped in eos as the language model saw texts."""

    tokens: NDArray[np.int32]
    example: Example


def encode(tokenizer: WordTokenizer, text: str) -> NDArray[np.int32]:
    """Token ids of a text between two eos."""
    ids, _ = tokenizer.encode(split_words(text))
    return np.array([tokenizer.eos_id, *ids, tokenizer.eos_id], dtype=np.int32)


class ExampleBatches:
    """Labelled examples of all sources, each at its share, in batches of like length."""

    def __init__(self, sources: list[tuple[float, list[Encoded]]], *, tokens_per_batch: int, seed: int) -> None:
        self.sources, self.tokens_per_batch, self.seed = sources, tokens_per_batch, seed

    def _draw(self, generator: np.random.Generator) -> list[Encoded]:
        drawn: list[Encoded] = []
        for share, examples in self.sources:
            whole, part = divmod(share, 1)
            drawn += examples * int(whole)
            drawn += [examples[i] for i in generator.permutation(len(examples))[: int(part * len(examples))]]
        return [replace(e, tokens=_crop(e.tokens, generator)) for e in drawn]

    def epoch(self, number: int, *, skip: int) -> Iterator[dict[str, Tensor]]:
        """Batches of tokens, lengths, target, binary and weight."""
        generator = np.random.default_rng([self.seed, number])
        drawn = self._draw(generator)
        batches = bucket_batches(
            [len(e.tokens) for e in drawn],
            tokens_per_batch=self.tokens_per_batch,
            max_rows=256,
            generator=generator,
        )
        for indices in batches[skip:]:
            yield to_batch([drawn[i] for i in indices])


def _crop(tokens: NDArray[np.int32], generator: np.random.Generator) -> NDArray[np.int32]:
    """A window of a long text: half the time its end, where reviewers sum up."""
    spare = len(tokens) - LONGEST
    if spare <= 0:
        return tokens
    start = spare if generator.random() < 0.5 else int(generator.integers(spare + 1))
    return tokens[start : start + LONGEST]


def to_batch(rows: Sequence[Encoded]) -> dict[str, Tensor]:
    """Collate examples, padded to one of the few lengths."""
    longest = padded_length(max(len(row.tokens) for row in rows))
    batch = batching.collate([{"tokens": row.tokens} for row in rows], pad_to=longest)
    batch["target"] = torch.tensor([row.example.target for row in rows])
    batch["binary"] = torch.tensor([row.example.binary for row in rows])
    batch["weight"] = torch.tensor([row.example.weight for row in rows])
    return batch


def masked_logits(logits: Tensor, binary: Tensor) -> Tensor:
    """Take the neutral class away from rows (B,) whose set does not label it; logits (B, 3)."""
    neutral = torch.zeros_like(logits, dtype=torch.bool)
    neutral[:, NEUTRAL] = True
    return logits.masked_fill(neutral & binary[:, None], float("-inf"))


def loss(
    model: nn.Module, batch: dict[str, Tensor], *, label_smoothing: float = 0.05, adversary: float = 0.0
) -> Tensor:
    """Weighted cross-entropy over the classes that each row's set knows, smoothed over these.

    With an `adversary`, the mean of that and the same of embeddings that were moved to where it is worst (Miyato et al.
    2017, https://arxiv.org/abs/1605.07725); it says how far all tokens of a text together, in lengths of one of them.
    """
    if not adversary:
        return _cross_entropy(model(batch["tokens"], batch["lengths"]), batch, label_smoothing)
    assert isinstance(model, Model)
    embedded = model.embed(batch["tokens"])  # (B, T, E)
    plain = _cross_entropy(model.classify(embedded, batch["lengths"]), batch, label_smoothing)
    if not embedded.requires_grad:  # as long as the head learns alone
        return plain
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradient, *own = torch.autograd.grad(plain, [embedded, *weights], retain_graph=True)
    length = embedded.detach().flatten(1).norm(dim=1) / batch["lengths"].sqrt()  # (B,)
    shift = gradient * (adversary * length / gradient.flatten(1).norm(dim=1).clamp_min(1e-12))[:, None, None]
    worse = _cross_entropy(model.classify(embedded + shift, batch["lengths"]), batch, label_smoothing)
    # what was found above is not asked for twice: a sum with these gradients, and with no value of its own
    known = torch.stack([(weight * found).sum() for weight, found in zip(weights, own, strict=True)]).sum()
    return (plain.detach() + worse + known - known.detach()) / 2


def _cross_entropy(logits: Tensor, batch: dict[str, Tensor], label_smoothing: float) -> Tensor:
    log_p = masked_logits(logits.float(), batch["binary"]).log_softmax(dim=-1)  # (B, 3)
    known = torch.isfinite(log_p)
    smooth = log_p.masked_fill(~known, 0.0).sum(dim=-1) / known.sum(dim=-1)
    picked = log_p.gather(1, batch["target"][:, None])[:, 0]
    per_row = -(1 - label_smoothing) * picked - label_smoothing * smooth
    return (per_row * batch["weight"]).sum() / batch["weight"].sum()


def encode_all(tokenizer: WordTokenizer, examples: Sequence[Example]) -> list[Encoded]:
    """Encode examples, in order."""
    return [Encoded(encode(tokenizer, example.text), example) for example in examples]
