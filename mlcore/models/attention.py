"""Attention over the places of a photo, for every decoder that looks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlcore.models.recurrent import LockedDropout

Look = tuple[Tensor, Tensor]  # places (B, P, H) and their keys (B, P, A)


class PlaceAttention(nn.Module):
    """Additive attention (Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473) with a gate on the context.

    The gate is beta of Xu et al. 2015, here a value for each unit.
    """

    def __init__(self, feature_dim: int, hidden_dim: int, attention_dim: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout = LockedDropout(dropout)
        self.places = nn.Linear(feature_dim, hidden_dim)
        self.keys = nn.Linear(hidden_dim, attention_dim)
        self.query = nn.Linear(hidden_dim, attention_dim)
        self.score = nn.Linear(attention_dim, 1, bias=False)
        self.gate = nn.Linear(hidden_dim, hidden_dim)

    def look(self, features: Tensor) -> Look:
        """features (B, P, F) -> places and keys: the same for every step of a photo."""
        places = self.places(self.dropout(features)).relu()
        return places, self.keys(places)

    def forward(self, hidden: Tensor, look: Look) -> tuple[Tensor, Tensor]:
        """hidden (B, T, H) -> context (B, T, H) and attention (B, T, P)."""
        places, keys = look
        energy: Tensor = self.score((keys[:, None] + self.query(hidden)[:, :, None]).tanh())[..., 0]  # (B, T, P)
        attention = energy.softmax(dim=-1)
        return torch.matmul(attention, places) * self.gate(hidden).sigmoid(), attention
