"""Tagged photos as batches, the loss over label sets that know different labels, and a linear probe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mlcore.models.rnn_tagger import Head, Model
from mlcore.training.losses import known_cross_entropy
from mlcore.training.photos import Photo
from mlcore.training.vision import augmentation

Batch = dict[str, Tensor]
LONGEST = 10  # tags of a photo that training names one after another


@dataclass(frozen=True)
class Labels:
    """The union of all sets' labels by name, in the sets' order, and which set knows which."""

    sets: Mapping[str, Sequence[str]]

    @cached_property
    def names(self) -> list[str]:
        """Every label once."""
        return list(dict.fromkeys(name for names in self.sets.values() for name in names))

    @cached_property
    def index(self) -> dict[str, int]:
        """Place of each name."""
        return {name: place for place, name in enumerate(self.names)}

    @property
    def members(self) -> tuple[tuple[int, ...], ...]:
        """Label indices of each set."""
        return tuple(tuple(self.index[name] for name in names) for names in self.sets.values())

    def number(self, photo: Photo) -> int:
        """Number of the set that a photo was marked with."""
        return list(self.sets).index(photo.tag_set)

    def targets(self, photos: Sequence[Photo]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(N, L): labels that are there, and those of which it is known whether they are."""
        target = np.zeros((len(photos), len(self.names)), dtype=bool)
        known = np.zeros_like(target)
        for row, photo in enumerate(photos):
            known[row, list(self.members[self.number(photo)])] = True
            known[row, [self.index[name] for name in photo.doubtful]] = False
            target[row, [self.index[name] for name in photo.tags]] = True
        return target, known


class TaggedBatches:
    """Augmented photos; the tags of each in an order drawn anew each epoch."""

    def __init__(self, photos: Sequence[Photo], labels: Labels, *, per_batch: int, seed: int, side: int) -> None:
        self.photos, self.per_batch, self.seed, self.side = photos, per_batch, seed, side
        self.target, self.known = labels.targets(photos)
        self.which = np.array([labels.number(photo) for photo in photos])
        self.augment = augmentation(side)

    def epoch(self, number: int, *, skip: int) -> Iterator[Batch]:
        """images (B, 3, S, S) uint8, target and known (B, L), which (B,), named (B, T) and count (B,) of these."""
        generator = np.random.default_rng([self.seed, number])
        order = generator.permutation(len(self.photos))
        per_batch = min(self.per_batch, len(order))
        for start in range(skip * per_batch, len(order) - per_batch + 1, per_batch):
            rows = order[start : start + per_batch]
            pixels = [torch.from_numpy(self.photos[int(i)].pixels(self.side).copy()) for i in rows]
            marks = self.marks(rows, np.random.default_rng([self.seed, number, start]))  # whatever was skipped
            yield {"images": torch.stack([self.augment(image) for image in pixels]), **marks}

    def marks(self, rows: NDArray[np.int64], generator: np.random.Generator) -> Batch:
        """What is known of these photos."""
        orders = [generator.permutation(np.flatnonzero(self.target[i]))[:LONGEST] for i in rows]
        named = np.zeros((len(rows), LONGEST), dtype=np.int64)
        for row, tags in zip(named, orders, strict=True):
            row[: len(tags)] = tags
        count = np.array([len(tags) for tags in orders])
        arrays = {"target": self.target[rows], "known": self.known[rows], "which": self.which[rows]}
        return {name: torch.from_numpy(value) for name, value in {**arrays, "named": named, "count": count}.items()}


class PooledBatches:
    """Pooled features (N, 2, F) of a frozen encoder, the photos' or their mirror images', for a probe."""

    def __init__(self, pooled: NDArray[np.float16], photos: Sequence[Photo], labels: Labels, *, seed: int) -> None:
        self.pooled, self.seed = pooled, seed
        self.target, self.known = labels.targets(photos)

    def epoch(self, number: int, *, skip: int) -> Iterator[Batch]:
        """pooled (B, F), target and known (B, L)."""
        generator = np.random.default_rng([self.seed, number])
        order = generator.permutation(len(self.pooled))
        views = generator.integers(2, size=len(order))
        for rows in np.array_split(order, max(1, len(order) // 128))[skip:]:
            yield {
                "pooled": torch.from_numpy(self.pooled[rows, views[rows]].astype(np.float32)),
                "target": torch.from_numpy(self.target[rows]),
                "known": torch.from_numpy(self.known[rows]),
            }


def probe_loss(head: Head, batch: Batch) -> Tensor:
    """Loss of a linear probe."""
    return known_cross_entropy(head.judge(batch["pooled"]), batch["target"].float(), batch["known"])


def linear_logits(
    pooled: Tensor, target: Tensor, known: Tensor, asked: Tensor, *, strength: float, iterations: int = 60
) -> Tensor:
    """Logits (M, L) for features `asked` (M, F) of a logistic regression a label, fitted on (N, F) to convergence.

    `strength` is that of the square penalty on weights of standardised features, beside the mean loss of the photos
    that know a label. The baseline of the card: what frozen features give, once all is drawn from them.
    """
    centre, spread = pooled.mean(dim=0), pooled.std(dim=0) + 1e-3
    pooled, asked = (pooled - centre) / spread, (asked - centre) / spread
    weight = torch.zeros(pooled.shape[1], target.shape[1], requires_grad=True)
    bias = torch.full((target.shape[1],), -3.0, requires_grad=True)
    share = known / known.sum(dim=0).clamp(min=1)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=iterations, history_size=8, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        each = nn.functional.binary_cross_entropy_with_logits(
            pooled @ weight + bias, target, weight=share, reduction="sum"
        )
        total: Tensor = each + strength / 2 * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return (asked @ weight + bias).detach()


def tag_loss(model: Model, batch: Batch) -> Tensor:
    """Head and decoder; a step of the decoder is asked about labels not yet named, and only while tags are left."""
    features = model.encoder(batch["images"])
    target, known, named = batch["target"].float(), batch["known"], batch["named"]
    alone = known_cross_entropy(model.head(features), target, known)
    steps = model.decoder(features, batch["which"], named)  # (B, T + 1, L)
    said = nn.functional.one_hot(named, target.shape[1]).cumsum(dim=1).bool()  # (B, T, L)
    said = torch.cat([torch.zeros_like(said[:, :1]), said], dim=1)
    real = torch.arange(steps.shape[1])[None, :] <= batch["count"][:, None]  # (B, T + 1)
    asked = known[:, None] & ~said & real[..., None]
    return alone + known_cross_entropy(steps, target[:, None].expand_as(steps), asked)
