"""A continuous cache: what followed where a text was like this before (Grave et al. 2017).

Source: https://arxiv.org/abs/1612.04426. The last hidden states are its keys, the tokens that came behind them its
values. A name that came once is likely to come again, which no small LSTM remembers. Its size is fixed, so that a
token's cost and memory are bounded however long the text is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_NEAR = 4  # tokens back to the first place that is looked at: a state is like those before it, but texts do not stutter


@dataclass(frozen=True)
class CacheConfig:
    """How far a cache looks back, its share of the next token's probability, and how sharply it tells places apart."""

    size: int  # tokens
    share: float  # once it is full; before, as much less as it is emptier
    sharpness: float  # factor of the products of hidden states


@dataclass
class Cache:
    """Of rows that are written side by side: keys (B, W, E), ids (B, W), and how many each row has had (B,)."""

    config: CacheConfig
    keys: Tensor
    ids: Tensor
    count: Tensor

    @classmethod
    def empty(cls, config: CacheConfig, rows: int, hidden_dim: int, *, device: torch.device) -> Cache:
        """Of texts that begin."""
        return cls(
            config,
            torch.zeros(rows, config.size, hidden_dim, device=device),
            torch.zeros(rows, config.size, dtype=torch.long, device=device),
            torch.zeros(rows, dtype=torch.long, device=device),
        )

    def push(self, hidden: Tensor, ids: Tensor) -> None:
        """Remember hidden states (B, T, E) and the tokens (B, T) that came behind each."""
        steps = torch.arange(ids.shape[1], device=ids.device)
        if len(steps) > self.config.size:
            last = slice(-self.config.size, None)
            hidden, ids, steps = hidden[:, last], ids[:, last], steps[last]
        places = (self.count[:, None] + steps) % self.config.size  # (B, T)
        rows = torch.arange(len(places), device=ids.device)[:, None]
        self.keys[rows, places] = hidden
        self.ids[rows, places] = ids
        self.count += int(steps[-1]) + 1

    def mixed(self, logits: Tensor, hidden: Tensor) -> Tensor:
        """Logits (B, V) of model and cache together, hidden (B, E) being the states behind the last tokens."""
        size, used = self.config.size, min(self.config.size, int(self.count.max()))
        places = torch.arange(used, device=logits.device)
        behind = (self.count[:, None] - 1 - places) % size + 1
        seen = (places < self.count[:, None]) & (behind >= _NEAR)
        scores = torch.bmm(self.keys[:, :used], hidden[:, :, None])[..., 0] * self.config.sharpness
        share = (self.count.clamp(max=size) * (self.config.share / size) * seen.any(dim=-1))[:, None]
        attention = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1).nan_to_num() * share
        chances = logits.softmax(dim=-1) * (1 - share)
        chances.scatter_add_(1, self.ids[:, :used], attention)
        return chances.clamp_min(1e-38).log() + logits.logsumexp(dim=-1, keepdim=True)

    def select(self, rows: Tensor) -> Cache:
        """The cache of these rows."""
        return Cache(self.config, *(x.index_select(0, rows) for x in (self.keys, self.ids, self.count)))

    @classmethod
    def joined(cls, caches: Sequence[Cache]) -> Cache:
        """The cache of the rows of all of them, one behind the other."""
        parts = zip(*((cache.keys, cache.ids, cache.count) for cache in caches), strict=True)
        return cls(caches[0].config, *(torch.cat(part) for part in parts))


@dataclass
class Reading:
    """The cache of texts that are read window by window, all their next tokens known."""

    config: CacheConfig
    keys: Tensor | None = None  # (B, W, E)
    ids: Tensor | None = None  # (B, W), -1 where there is nothing yet

    def chances(self, hidden: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
        """What the cache gives each next token `goal` (B, T), and its share (B, T).

        hidden (B, T, E). Rows that have ended are the last ones, and are left out of a following window.
        """
        size, (rows, steps) = self.config.size, goal.shape
        if self.keys is None or self.ids is None:
            self.keys = hidden.new_zeros(rows, size, hidden.shape[2])
            self.ids = goal.new_full((rows, size), -1)
        keys = torch.cat([self.keys[:rows], hidden], dim=1)  # (B, W + T, E)
        ids = torch.cat([self.ids[:rows], goal], dim=1)
        behind = (
            torch.arange(steps, device=goal.device)[:, None] + size - torch.arange(size + steps, device=goal.device)
        )
        kept = ((behind > 0) & (behind <= size)) & (ids >= 0)[:, None]  # (B, T, W + T)
        seen = kept & (behind >= _NEAR)
        scores = (hidden @ keys.transpose(1, 2) * self.config.sharpness).masked_fill(~seen, -torch.inf)
        attention = scores.softmax(dim=-1).nan_to_num()
        self.keys, self.ids = keys[:, -size:], ids[:, -size:]
        found = (attention * (ids[:, None] == goal[..., None])).sum(dim=-1)
        return found, kept.sum(dim=-1) * (self.config.share / size) * seen.any(dim=-1)
