"""Recurrent layers that every architecture shares: directions, and dropout fixed over time."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn


def length_mask(lengths: Tensor, max_length: int) -> Tensor:
    """(B,) lengths -> (B, T) mask, True where real."""
    return torch.arange(max_length, device=lengths.device)[None, :] < lengths[:, None]


def reverse_within_length(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each row of x (B, T, ...) within its own length; the padding stays at the end.

    Without this the backward direction would read the padding first.
    """
    steps = torch.arange(x.shape[1], device=x.device)[None, :]  # (1, T)
    index = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)  # (B, T)
    return x.gather(1, index[..., None].expand_as(x)) if x.dim() == 3 else x.gather(1, index)


def project(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x (..., E) times weight (V, E) plus bias (V,) -> (..., V), quick for few rows too.

    With 2 to 32 rows on a CPU the product is made the other way round, as weight times columns: BLAS then reads the
    weight, whose size is what such a product costs, once and in order.
    """
    if x.dim() == 2 and 2 <= len(x) <= 32 and x.device.type == "cpu":
        return torch.addmm(bias[:, None], weight, x.t()).t().contiguous()
    return nn.functional.linear(x, weight, bias)


class LSTM(nn.LSTM):
    """One LSTM layer, batch first, that is also quick at a single step of few rows.

    oneDNN, which torch calls for CPUs, packs the weights anew at each call: at one step of one row that takes several
    times as long as the step itself. From `SOME` rows on the products are made as in `project`.
    """

    SOME = 16
    FEW = 64  # rows; with more, packing pays

    def __init__(self, input_dim: int, hidden_dim: int) -> None:
        super().__init__(input_dim, hidden_dim, batch_first=True)

    def forward(  # type: ignore[override]
        self, x: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x (B, T, E), state h and c (1, B, H), zeros if none -> output (B, T, H) and the new state."""
        if state is None or x.shape[1] != 1 or len(x) > self.FEW:
            return super().forward(x, state)  # type: ignore[no-any-return]
        if len(x) >= self.SOME and x.device.type == "cpu":
            h, c = self._step(x[:, 0], state[0][0], state[1][0])
        else:
            weights: Any = (self.weight_ih_l0, self.weight_hh_l0, self.bias_ih_l0, self.bias_hh_l0)
            h, c = torch.lstm_cell(x[:, 0], (state[0][0], state[1][0]), *weights)
        return h[:, None], (h[None], c[None])

    def _step(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, E), h and c (B, H) -> the new h and c; columns are rows in between."""
        own: Any = self
        bias = (own.bias_ih_l0 + own.bias_hh_l0)[:, None]
        gates = torch.addmm(torch.addmm(bias, own.weight_ih_l0, x.t()), own.weight_hh_l0, h.t())  # (4H, B)
        let_in, keep, fresh, show = gates.chunk(4)
        cell = keep.sigmoid() * c.t() + let_in.sigmoid() * fresh.tanh()
        return (show.sigmoid() * cell.tanh()).t(), cell.t()


class LockedDropout(nn.Module):
    """One dropout mask a row, shared over time (Gal & Ghahramani 2016, https://arxiv.org/abs/1512.05287)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, E) -> (B, T, E)."""
        if not self.training or self.p == 0:
            return x
        mask = x.new_empty(x.shape[0], 1, x.shape[2]).bernoulli_(1 - self.p) / (1 - self.p)
        return x * mask


class WeightDropLSTM(nn.Module):
    """A stack of LSTM layers with DropConnect on the recurrent weights (Merity et al. 2018, https://arxiv.org/abs/1708.02182).

    Layers are separate `LSTM`s, so that dropout between them can be the locked one. State goes in and
    comes out; it is never kept.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        num_layers: int,
        *,
        dropout: float,
        weight_dropout: float,
        output_dim: int = 0,
        residual: bool = False,
    ) -> None:
        """The last layer has `output_dim` units where that is given.

        With `residual`, a layer as wide as what it reads is added to that, times a number that is learned and begins
        at zero (ReZero, Bachlechner et al. 2021, https://arxiv.org/abs/2003.04887): a model may grow such layers late.
        """
        super().__init__()
        sizes = [input_dim, *[hidden_dim] * (num_layers - 1), output_dim or hidden_dim]
        self.layers = nn.ModuleList(LSTM(size, following) for size, following in itertools.pairwise(sizes))
        self.dropout = LockedDropout(dropout)
        self.weight_dropout = weight_dropout
        self.scales = nn.Parameter(torch.zeros(num_layers)) if residual else None

    def forward(
        self, x: Tensor, state: list[tuple[Tensor, Tensor]] | None = None
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """x (B, T, E), state a pair (1, B, H) a layer -> output (B, T, H) and the new state."""
        states: list[tuple[Tensor, Tensor]] = []
        for i, layer in enumerate(self.layers):
            if i:
                x = self.dropout(x)
            found, new_state = self._run(layer, x, state[i] if state else None)  # (B, T, H)
            x = found if self.scales is None or found.shape != x.shape else x + self.scales[i] * found
            states.append(new_state)
        return x, states

    def _run(
        self, layer: nn.Module, x: Tensor, state: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        if not self.training or self.weight_dropout == 0:
            return layer(x, state)  # type: ignore[no-any-return]
        weight = layer.weight_hh_l0
        assert isinstance(weight, Tensor)
        dropped = nn.functional.dropout(weight, self.weight_dropout)
        return torch.func.functional_call(layer, {"weight_hh_l0": dropped}, (x, state))  # type: ignore[no-any-return]


class BiLSTM(nn.Module):
    """Two stacks that never see each other, one a direction: each can be pre-trained as a language model."""

    def __init__(
        self, input_dim: int, hidden_dim: int, num_layers: int, *, dropout: float, weight_dropout: float
    ) -> None:
        super().__init__()
        self.ahead, self.back = (
            WeightDropLSTM(input_dim, hidden_dim, num_layers, dropout=dropout, weight_dropout=weight_dropout)
            for _ in range(2)
        )

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, E) -> left-to-right and right-to-left outputs, each (B, T, H), both in text order."""
        ahead, _ = self.ahead(x)
        back, _ = self.back(reverse_within_length(x, lengths))
        return ahead, reverse_within_length(back, lengths)
