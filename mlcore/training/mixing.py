"""Weights between those that a run began with and its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from torch import Tensor, nn

Mixing = tuple[float, Mapping[float, Mapping[str, float]]]  # the share that was taken, and the scores of all
logger = logging.getLogger(__name__)

SHARES = (1.0, 0.7, 0.6, 0.5, 0.4, 0.3, 0.0)  # of a run's own weights; with none it is as it began


def mix(
    model: nn.Module,
    first: Mapping[str, Tensor],
    evaluate: Callable[[nn.Module], Mapping[str, float]],
) -> Mixing:
    """Give a model the weights between `first` and its own whose score `mean` is best.

    Returns the share of its own weights, and the scores of all that were tried. What a run forgets of what it began
    with comes back that way, also where the run alone ended worse than it began (Wortsman et al. 2022, https://arxiv.org/abs/2109.01903).
    """
    own = {name: value.clone() for name, value in model.state_dict().items()}

    def take(share: float) -> None:
        model.load_state_dict({name: first[name].lerp(value, share) for name, value in own.items()})

    scores: dict[float, dict[str, float]] = {}
    for share in SHARES:
        take(share)
        scores[share] = {name: round(value, 4) for name, value in evaluate(model.eval()).items()}
        logger.info("%.1f of its own weights: %s", share, scores[share])
    best = max(SHARES, key=lambda share: scores[share]["mean"])
    take(best)
    return best, scores
