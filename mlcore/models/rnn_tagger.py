"""One to many: a CNN encoder, and an LSTM that names what is on a photo, one tag after another.

After CNN-RNN (Wang et al. 2016, https://arxiv.org/abs/1604.04573): each step sees the photo and the tags named so far.
Otherwise than there a step looks at places (attention) and gives every label a probability of its own, that it too is
on the photo, given what was named; tags have no order, so training draws one anew each time. A sigmoid head on pooled
features (mean and maximum) judges each label alone; the answer is a mixture of both on the scale of logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mlcore.batching import Batch
from mlcore.models import cnn
from mlcore.models.attention import Look, PlaceAttention
from mlcore.models.recurrent import LSTM


@dataclass(frozen=True)
class Config:
    """Everything that the constructor needs; stored as it is in a bundle's config.json.

    `sets` are the label sets, each the indices of the labels that its people marked. The probability of a label in set
    s is sigmoid(slopes[s] * logit + intercepts[s]) (Platt 1999), logit = mix * head + (1 - mix) * decoder.
    """

    num_labels: int
    sets: tuple[tuple[int, ...], ...]
    blocks: tuple[tuple[int, int, int, int], ...] = cnn.LITE2
    stem_dim: int = 32
    feature_dim: int = 1280
    image_size: int = 320
    embed_dim: int = 128
    hidden_dim: int = 320
    attention_dim: int = 192
    dropout: float = 0.3
    feature_dropout: float = 0.2
    max_tags: int = 10  # that the decoder names before it must stop
    mix: float = 0.5
    mirror: bool = False  # also judge the photo's mirror image, and take the mean of the logits
    slopes: tuple[float, ...] = ()
    intercepts: tuple[float, ...] = ()


class Model(nn.Module):
    """images (B, 3, S, S), number of the label set (B,) -> logits (B, L), labels of other sets included."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = cnn.encoder_of(config)
        self.head = Head(config)
        self.decoder = Decoder(config)

    def forward(self, images: Tensor, which: Tensor) -> Tensor:
        """The mixture of head and decoder."""
        head, (decoder,) = self.judge(images, [which])
        logits: Tensor = self.config.mix * head + (1 - self.config.mix) * decoder
        return logits

    def judge(self, images: Tensor, which: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Logits (B, L) of the head, and of the decoder for each of the label sets (B,) asked for."""
        views = [images, images.flip(-1)] if self.config.mirror else [images]
        seen = [self.encoder(view) for view in views]
        head = torch.stack([self.head(features) for features in seen]).mean(dim=0)
        decoders = [
            torch.stack([self.decoder.judge(features, number) for features in seen]).mean(dim=0) for number in which
        ]
        return head, decoders

    def predict(self, batch: Batch, options: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
        """Calibrated probabilities of each photo's labels, a list (L) a set; NaN-free, zeros outside the set."""
        config, images = self.config, batch["images"]
        with torch.inference_mode():
            asked = [torch.full((len(images),), number, device=images.device) for number in range(len(config.sets))]
            head, decoders = self.judge(images, asked)
            found = []
            for number, (members, decoder) in enumerate(zip(config.sets, decoders, strict=True)):
                logits = config.mix * head + (1 - config.mix) * decoder
                slope = config.slopes[number] if config.slopes else 1.0
                intercept = config.intercepts[number] if config.intercepts else 0.0
                probabilities = (slope * logits + intercept).sigmoid()
                outside = torch.ones(config.num_labels, dtype=torch.bool, device=images.device)
                outside[list(members)] = False
                found.append(probabilities.masked_fill(outside, 0.0))
        return [{"probabilities": [rows[i].tolist() for rows in found]} for i in range(len(images))]


class Head(nn.Module):
    """Each label judged alone, from the mean and the maximum of the features, standardised."""

    centre: Tensor
    scale: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(2 * config.feature_dim, config.num_labels)
        self.register_buffer("centre", torch.zeros(2 * config.feature_dim))
        self.register_buffer("scale", torch.ones(2 * config.feature_dim))

    def forward(self, features: Tensor) -> Tensor:
        """features (B, P, F) -> logits (B, L)."""
        return self.judge(pool(features))

    def judge(self, pooled: Tensor) -> Tensor:
        """pooled features (..., 2F) -> logits (..., L)."""
        logits: Tensor = self.out(self.dropout((pooled - self.centre) * self.scale))
        return logits

    def standardise(self, pooled: Tensor) -> None:
        """Take mean and spread from pooled features (N, 2F) of the training photos."""
        self.centre.copy_(pooled.mean(dim=0))
        self.scale.copy_(1 / (pooled.std(dim=0) + 1e-3))


def pool(features: Tensor) -> Tensor:
    """features (B, P, F) -> mean and maximum over places (B, 2F)."""
    return torch.cat([features.mean(dim=1), features.amax(dim=1)], dim=-1)


class Decoder(nn.Module):
    """Names tags one after another; each step judges every label, given those named before."""

    labels: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden_dim
        # labels, then one start for each set: it says whose habit of naming is asked for
        self.embedding = nn.Embedding(config.num_labels + len(config.sets), config.embed_dim)
        self.tags = LSTM(config.embed_dim, hidden)
        self.attention = PlaceAttention(
            config.feature_dim, hidden, config.attention_dim, dropout=config.feature_dropout
        )
        self.whole = nn.Linear(2 * config.feature_dim, hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(2 * hidden, config.num_labels)
        members = torch.zeros(len(config.sets), config.num_labels, dtype=torch.bool)
        for number, indices in enumerate(config.sets):
            members[number, list(indices)] = True
        self.register_buffer("labels", members, persistent=False)

    def forward(self, features: Tensor, which: Tensor, named: Tensor) -> Tensor:
        """Teacher forcing: named (B, T) are labels in the order in which they are named -> logits (B, T + 1, L).

        logits[:, t] judge what else is there once named[:, :t] are said.
        """
        tokens = torch.cat([self.config.num_labels + which[:, None], named], dim=1)
        look, whole = self._see(features)
        logits, _ = self._step(tokens, look, whole, None)
        return logits

    def _see(self, features: Tensor) -> tuple[Look, Tensor]:
        return self.attention.look(features), self.whole(self.dropout(pool(features)))[:, None]

    def _step(
        self, tokens: Tensor, look: Look, whole: Tensor, state: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        hidden, state = self.tags(self.dropout(self.embedding(tokens)), state)
        context, _ = self.attention(hidden, look)
        seen = (whole + context).relu()
        return self.out(self.dropout(torch.cat([hidden, seen], dim=-1))), state

    def judge(self, features: Tensor, which: Tensor) -> Tensor:
        """Name the likeliest label until none is likelier than not; features (B, P, F) -> logits (B, L).

        A label that was named keeps the logit with which it was; the others have their last one.
        """
        look, whole = self._see(features)
        allowed = self.labels[which]  # (B, L)
        named = torch.zeros_like(allowed)
        going = torch.ones(len(features), dtype=torch.bool, device=features.device)
        tokens = self.config.num_labels + which
        state = None
        found = features.new_zeros(allowed.shape)
        for _ in range(self.config.max_tags + 1):
            logits, state = self._step(tokens[:, None], look, whole, state)
            fresh = going[:, None] & ~named
            found = torch.where(fresh, logits[:, 0], found)
            best, tokens = found.masked_fill(named | ~allowed, -torch.inf).max(dim=1)
            going = going & (best > 0)
            if not bool(going.any()):
                break
            named = named | (nn.functional.one_hot(tokens, allowed.shape[1]).bool() & going[:, None])
        return found
