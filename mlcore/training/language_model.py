"""Pre-training of a BiLSTM's two directions as language models (Dai & Le 2015, https://arxiv.org/abs/1511.01432)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mlcore.models.lstm_classifier import Model
from mlcore.training.losses import blockwise_cross_entropy, sampled_cross_entropy


class StreamBatches:
    """One long stream of token ids, cut into rows of `steps` tokens at a new offset each epoch."""

    def __init__(self, stream: NDArray[np.int32], *, rows: int, steps: int, seed: int) -> None:
        self.stream, self.rows, self.steps, self.seed = stream, rows, steps, seed

    def epoch(self, number: int, *, skip: int) -> Iterator[Tensor]:
        """Batches (rows, steps) of one shape."""
        generator = np.random.default_rng([self.seed, number])
        offset = int(generator.integers(self.steps))
        usable = (len(self.stream) - offset) // self.steps
        cut = self.stream[offset : offset + usable * self.steps].reshape(usable, self.steps)
        order = generator.permutation(usable)
        for start in range(skip * self.rows, usable - self.rows + 1, self.rows):
            yield torch.from_numpy(cut[order[start : start + self.rows]].astype(np.int64))


class BidirectionalLM(nn.Module):
    """The classifier's embedding and encoder, each direction with the task of naming its next token.

    The output layer is the embedding (tied), behind a projection for each direction.
    """

    def __init__(self, classifier: Model, *, candidates: int) -> None:
        """`candidates` of the vocabulary are told apart at each step (see `sampled_cross_entropy`)."""
        super().__init__()
        config = classifier.config
        self.classifier = classifier
        self.ahead, self.back = (nn.Linear(config.hidden_dim, config.embed_dim) for _ in range(2))
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.candidates = min(candidates, config.vocab_size)

    def _hidden(self, tokens: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """tokens (B, T) -> for each direction projected hidden states (N, E) and their targets (N,)."""
        lengths = torch.full((tokens.shape[0],), tokens.shape[1], device=tokens.device)
        embedded = self.classifier.embed(tokens)
        ahead, back = self.classifier.encoder(embedded, lengths)  # (B, T, H) each
        dropout = self.classifier.dropout
        yield self.ahead(dropout(ahead[:, :-1])).flatten(0, 1), tokens[:, 1:].flatten()
        yield self.back(dropout(back[:, 1:])).flatten(0, 1), tokens[:, :-1].flatten()

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (B, T) -> mean loss of the two directions (nats a token), estimated on the candidates."""
        hidden, goals = (torch.cat(parts) for parts in zip(*self._hidden(tokens), strict=True))  # (N, E), (N,)
        parts = (hidden, self.classifier.embedding.weight, self.bias, goals)
        return sampled_cross_entropy(*parts, size=self.candidates, always=self.candidates // 8, block=256) / len(goals)

    def full_loss(self, tokens: Tensor) -> float:
        """Exact nats a token, the mean of the two directions."""
        weight = self.classifier.embedding.weight
        total = [
            float(blockwise_cross_entropy(hidden, weight, self.bias, goal)) / len(goal)
            for hidden, goal in self._hidden(tokens)
        ]
        return sum(total) / len(total)
