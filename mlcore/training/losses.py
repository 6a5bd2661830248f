"""Losses over large vocabularies that fit a CPU's memory bandwidth."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


class _BlockwiseCrossEntropy(torch.autograd.Function):
    """Output layer and cross-entropy a block of rows at a time; only the gradients are kept.

    Plainly written, the logits (N, V), their log-softmax and two gradients of that size pass through
    memory several times; in blocks they stay in the cache.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, smoothing: float, block: int
    ) -> Tensor:
        low = torch.bfloat16 if torch.is_autocast_enabled(hidden.device.type) else hidden.dtype
        # custom functions run inside autocast: products below choose their own dtype
        with torch.autocast(hidden.device.type, enabled=False):
            w, h = weight.to(low), hidden.to(low)
            grad_hidden = torch.empty_like(h)
            grad_weight = torch.zeros_like(weight)
            grad_bias = torch.zeros_like(bias)
            total = hidden.new_zeros((), dtype=torch.float32)
            uniform = smoothing / weight.shape[0]
            for start in range(0, len(h), block):
                rows, goal = h[start : start + block], targets[start : start + block, None]
                logits = (rows @ w.T).float().add_(bias)  # (block, V)
                log_p = logits.log_softmax(dim=-1)
                total -= (1 - smoothing) * log_p.gather(1, goal).sum()
                if smoothing:
                    total -= uniform * log_p.sum()
                grad = log_p.exp_()  # in place: the probabilities become the gradient
                grad -= uniform
                grad.scatter_add_(1, goal, torch.full_like(goal, smoothing - 1, dtype=grad.dtype))
                grad_bias += grad.sum(dim=0)
                grad = grad.to(low)
                grad_hidden[start : start + block] = grad @ w
                if low == weight.dtype:
                    grad_weight.addmm_(grad.T, rows)
                else:
                    grad_weight += (grad.T @ rows).to(weight.dtype)
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ctx.dtype = hidden.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = grad_outputs
        grad_hidden, grad_weight, grad_bias = ctx.saved_tensors
        return grad_hidden.to(ctx.dtype) * scale, grad_weight * scale, grad_bias * scale, None, None, None


def blockwise_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
    block: int = 128,
) -> Tensor:
    """Sum over rows of cross-entropy(hidden @ weight.T + bias, targets).

    hidden (N, E), weight (V, E), bias (V,), targets (N,) -> scalar, float32; the same value and
    gradients as `nn.CrossEntropyLoss(reduction="sum")`.
    """
    loss = _BlockwiseCrossEntropy.apply(hidden, weight, bias, targets, label_smoothing, block)
    return loss  # type: ignore[no-any-return]


def sampled_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, *, size: int, always: int, block: int = 512
) -> Tensor:
    """`blockwise_cross_entropy` over `size` of V words: the `always` first ones, all targets, and some of the others.

    The drawn ones stand for all others, so the estimate of the sum over the vocabulary has no bias (importance sampling
    with a part counted in full; Jean et al. 2015, https://arxiv.org/abs/1412.2007). The first ones should be frequent.
    With few targets it costs size / V of the whole.
    """
    vocab_size = weight.shape[0]
    counted = torch.zeros(vocab_size, dtype=torch.bool, device=targets.device)
    counted[:always] = True
    counted[targets] = True
    sure, others = counted.nonzero()[:, 0], (~counted).nonzero()[:, 0]
    count = size - len(sure)  # always so many in all: new shapes cost time
    if count < min(size // 8, len(others)) or not len(others):
        return blockwise_cross_entropy(hidden, weight, bias, targets)
    drawn = others[torch.randperm(len(others), device=targets.device)[:count]]
    chosen = torch.cat([sure, drawn])
    stands_for = torch.zeros(len(chosen), device=bias.device)
    stands_for[len(sure) :] = math.log(len(others) / len(drawn))
    place = torch.empty(vocab_size, dtype=torch.long, device=targets.device)
    place[chosen] = torch.arange(len(chosen), device=targets.device)
    return blockwise_cross_entropy(hidden, weight[chosen], bias[chosen] + stands_for, place[targets], block=block)


def known_cross_entropy(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy, the mean over the labels that are known; logits, target (0 or 1) and known (..., L).

    Asymmetric loss (Ridnik et al. 2021) did not pay here: on frozen features mAP fell from 0.578 to 0.564.
    """
    loss = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (loss * known).sum() / known.sum().clamp(min=1)
