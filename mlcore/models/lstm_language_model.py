"""One to many: an LSTM that says what comes next, in one of several voices.

AWD-LSTM (Merity et al. 2018, https://arxiv.org/abs/1708.02182): dropout masks shared over time, DropConnect on the
recurrent weights, the last layer as wide as the tied embedding. A voice is a vector added to every token's embedding.
Beside it, not trained, may stand a continuous cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlcore.generation import TokenEngine as Engine
from mlcore.models.continuous_cache import CacheConfig
from mlcore.models.recurrent import LockedDropout, WeightDropLSTM, project

__all__ = ["Config", "Engine", "Model"]
State = list[tuple[Tensor, Tensor]]  # h and c (1, B, H) of each layer


@dataclass(frozen=True)
class Config:
    """Everything that the constructor needs; stored as it is in a bundle's config.json."""

    vocab_size: int
    voices: tuple[str, ...]
    embed_dim: int = 400
    hidden_dim: int = 768
    num_layers: int = 2
    residual: bool = False  # layers between the first and the last are added to what they read
    token_dropout: float = 0.02  # whole tokens, a mask a batch row
    embed_dropout: float = 0.1
    dropout: float = 0.15  # between layers and on the last one's output
    weight_dropout: float = 0.1
    cache_size: int = 0  # tokens; 0 is no cache
    cache_share: float = 0.07
    cache_sharpness: float = 0.7

    @property
    def cache(self) -> CacheConfig | None:
        """The cache that its texts have, or that they have none."""
        return CacheConfig(self.cache_size, self.cache_share, self.cache_sharpness) if self.cache_size else None


class Model(nn.Module):
    """tokens (B, T), voices (B, T), state -> hidden (B, T, E) for `logits`, and the new state."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.embed_dim)
        self.voices = nn.Embedding(len(config.voices), config.embed_dim)
        self.embed_dropout = LockedDropout(config.embed_dropout)
        self.layers = WeightDropLSTM(
            config.embed_dim,
            config.hidden_dim,
            config.num_layers,
            dropout=config.dropout,
            weight_dropout=config.weight_dropout,
            output_dim=config.embed_dim,
            residual=config.residual,
        )
        self.dropout = LockedDropout(config.dropout)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        nn.init.normal_(self.embedding.weight, std=config.embed_dim**-0.5)
        nn.init.normal_(self.voices.weight, std=0.01)
        for layer in self.layers.layers:  # at first nothing is forgotten (Jozefowicz et al. 2015)
            bias = layer.bias_ih_l0
            assert isinstance(bias, Tensor)
            nn.init.ones_(bias.data[len(bias) // 4 : len(bias) // 2])

    def forward(self, tokens: Tensor, voices: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Row t is for the token after tokens[:, t]; the state comes in and goes out, it is never kept."""
        embedded = self.embedding(tokens)
        if self.training and self.config.token_dropout:
            keep = torch.rand(tokens.shape, device=tokens.device) >= self.config.token_dropout
            embedded = embedded * keep[..., None]
        x = self.embed_dropout(embedded + self.voices(voices))
        hidden, new_state = self.layers(x, state)
        return self.dropout(hidden), new_state

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., E) -> (..., V), with the embedding as output layer (Press & Wolf 2017)."""
        return project(hidden, self.embedding.weight, self.bias)
