"""Drawing the next token: narrowed candidates, and chance that depends on a seed and a place alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_REFUSALS = 32  # tokens refused one by one before all are asked for
_COLDEST = 1e-3  # temperatures below are 0: dividing by them leaves one token anyway, or overflows
# Sorting a vocabulary for each token of each text is what drawing costs. Mostly the likeliest few hundred decide, and
# those within so many nats of the best one are found by comparing; more are looked at only where they are too few.
_DEPTHS = (6.0, 10.0, math.inf)


def uniform(seed: int, number: int, position: int, again: int = 0) -> float:
    """A number from 0 to 1 that depends on nothing but these; `again` counts draws that were refused."""
    name = f"{seed}/{number}/{position}" + (f"/{again}" if again else "")
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


def draw(
    logits: NDArray[np.float32],
    options: Mapping[str, Any],
    recent: Sequence[int],
    *,
    position: tuple[int, int],
    allows: Callable[[int], bool],
) -> int:
    """The next token of a continuation: logits (V,), `position` its number and the number of the token.

    Temperature 0 takes the likeliest. Otherwise candidates are narrowed by top-k, then top-p (Holtzman et al. 2020,
    https://arxiv.org/abs/1904.09751) and min-p, and one is drawn by inverting their distribution, the likeliest first.
    What `allows` refuses has no probability: the others are narrowed and drawn from as if it were not there.
    """
    scores = logits.astype(np.float64)
    penalty = options["repetition_penalty"]
    if penalty != 1.0 and recent:
        seen = np.unique(np.asarray(recent))
        scores[seen] = np.where(scores[seen] > 0, scores[seen] / penalty, scores[seen] * penalty)
    greedy = options["temperature"] < _COLDEST
    if not greedy:
        scores /= options["temperature"]
    for again in range(len(scores)):
        if again == _REFUSALS:  # next to nothing may come, as in the middle of a character: ask for all at once
            scores[[not allows(token) for token in range(len(scores))]] = -np.inf
        best = int(scores.argmax())
        if not np.isfinite(scores[best]):
            break
        token = best if greedy else _drawn(scores, scores[best], options, uniform(options["seed"], *position, again))
        if allows(token):
            return token
        scores[token] = -np.inf
    return int(logits.argmax())


def _drawn(scores: NDArray[np.float64], best: float, options: Mapping[str, Any], share: float) -> int:
    """The token at `share` of the candidates' probability, the likeliest first, equal ones by their ids."""
    weights = np.exp(scores - best)
    total, wanted = weights.sum(), options["top_k"] or 0
    order = np.zeros(0, dtype=np.int64)
    for depth in _DEPTHS:
        near = np.flatnonzero(scores >= best - depth) if depth < math.inf else np.flatnonzero(weights)
        if depth < math.inf and len(near) < wanted:
            continue
        order = near[np.argsort(-scores[near], kind="stable")]
        if wanted:
            order = order[:wanted]
            total = weights[order].sum()
        head = weights[order]
        mass = np.cumsum(head)
        count = len(order)
        if options["top_p"] < 1:
            count = min(count, int(np.searchsorted(mass, options["top_p"] * total)) + 1)
        if options["min_p"] > 0:
            count = min(count, max(1, int((head >= options["min_p"] * head[0]).sum())))
        # all candidates are known, or at least those up to the drawn one where nothing narrows them
        whole = count < len(order) or wanted
        place = int(np.searchsorted(mass[:count], share * (mass[count - 1] if whole else total), side="right"))
        if whole or (place < count and options["top_p"] == 1 and options["min_p"] == 0):
            return int(order[min(place, count - 1)])
    return int(order[min(place, count - 1)])
