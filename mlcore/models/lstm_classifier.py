"""Many to one: a BiLSTM with max, mean and attention pooling that classifies a text.

After Howard & Ruder 2018 (https://arxiv.org/abs/1801.06146) for language-model pre-training and concat
pooling, and Merity et al. 2018 for the dropouts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from mlcore.batching import Batch
from mlcore.models.recurrent import BiLSTM, LockedDropout, length_mask

_CUDNN_SWITCH = Lock()


@dataclass(frozen=True)
class Config:
    """Everything that the constructor needs; stored as it is in a bundle's config.json."""

    vocab_size: int
    labels: tuple[str, ...]
    embed_dim: int = 256
    hidden_dim: int = 512  # of one direction
    num_layers: int = 1
    head_dim: int = 128
    token_dropout: float = 0.1  # whole tokens, a mask a batch row
    embed_dropout: float = 0.3
    dropout: float = 0.3  # between layers and on the encoder's output
    weight_dropout: float = 0.3
    head_dropout: float = 0.4
    temperature: float = 1.0  # divides the logits; fitted on dev after training (Guo et al. 2017)
    positive: int = 2  # the two classes that word weights speak of
    negative: int = 0
    attribution_steps: int = 1  # points on the path; 1 is gradient x input, more is dearer


class Model(nn.Module):
    """tokens (B, T) -> logits (B, C)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width = 2 * config.hidden_dim
        self.embedding = nn.Embedding(config.vocab_size, config.embed_dim, padding_idx=0)
        self.embed_dropout = LockedDropout(config.embed_dropout)
        self.encoder = BiLSTM(
            config.embed_dim,
            config.hidden_dim,
            config.num_layers,
            dropout=config.dropout,
            weight_dropout=config.weight_dropout,
        )
        self.dropout = LockedDropout(config.dropout)
        self.attention = nn.Linear(width, 1)
        self.head = nn.Sequential(
            nn.Dropout(config.head_dropout),
            nn.Linear(3 * width, config.head_dim),
            nn.ReLU(),
            nn.Dropout(config.head_dropout / 2),
            nn.Linear(config.head_dim, len(config.labels)),
        )
        nn.init.normal_(self.embedding.weight, std=0.1)
        with torch.no_grad():
            self.embedding.weight[0].zero_()

    def embed(self, tokens: Tensor) -> Tensor:
        """tokens (B, T) -> (B, T, E), with whole tokens and whole features dropped in training."""
        if self.training and self.config.token_dropout:
            keep = torch.rand(tokens.shape, device=tokens.device) >= self.config.token_dropout
            tokens = torch.where(keep, tokens, torch.ones_like(tokens))  # 1 is unk
        return self.embed_dropout(self.embedding(tokens))  # type: ignore[no-any-return]

    def classify(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """Embedded tokens (B, T, E) -> logits (B, C)."""
        hidden = self.dropout(torch.cat(self.encoder(embedded, lengths), dim=-1))  # (B, T, 2H)
        mask = length_mask(lengths, hidden.shape[1])[..., None]  # (B, T, 1)
        scores = self.attention(hidden).masked_fill(~mask, float("-inf"))  # (B, T, 1)
        attended = (scores.softmax(dim=1) * hidden).sum(dim=1)  # (B, 2H)
        mean = (hidden * mask).sum(dim=1) / lengths[:, None]  # (B, 2H)
        highest = hidden.masked_fill(~mask, float("-inf")).amax(dim=1)  # (B, 2H)
        return self.head(torch.cat([attended, mean, highest], dim=-1))  # type: ignore[no-any-return]

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """tokens (B, T), lengths (B,) -> logits (B, C)."""
        return self.classify(self.embed(tokens), lengths)

    def predict(self, batch: Batch, options: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
        """Probabilities and, for each token, its share of logit(positive) - logit(negative).

        Shares are gradient x input, or with `attribution_steps` > 1 integrated gradients (Sundararajan et al.
        2017, https://arxiv.org/abs/1703.01365) from the zero embedding: signed, unlike attention.
        """
        tokens, lengths = batch["tokens"], batch["lengths"]
        embedded = self.embedding(tokens).detach()  # (B, T, E)
        total = torch.zeros_like(embedded)
        steps = self.config.attribution_steps
        for step in range(steps):  # the last point is the text itself: its logits are the answer
            point = (embedded * ((step + 1) / steps)).requires_grad_()
            # cuDNN takes no gradient through an LSTM that is not training; the switch is the whole process's, and a
            # second version may be tested beside this one
            with _CUDNN_SWITCH, torch.backends.cudnn.flags(enabled=False):
                logits = self.classify(point, lengths)  # (B, C)
            margin = logits[:, self.config.positive] - logits[:, self.config.negative]  # (B,)
            (gradient,) = torch.autograd.grad(margin.sum(), point)
            total += gradient
        probabilities = (logits.detach() / self.config.temperature).softmax(dim=-1)  # (B, C)
        weights = (total / steps * embedded).sum(dim=-1)  # (B, T)
        return [
            {"probabilities": row_p.tolist(), "weights": row_w[:length].tolist()}
            for row_p, row_w, length in zip(probabilities, weights, lengths.tolist(), strict=True)
        ]
