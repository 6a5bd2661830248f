"""Drawing the next token: narrowed candidates, and chance that depends on a seed and a place alone."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_REFUSALS = 32  # tokens refused one by one before all are asked for
_COLDEST = 1e-3  # temperatures below are 0: dividing by them leaves one token anyway, or overflows
_HEAD = 256  # candidates that are sorted; more only where the options let more in


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
    if options["temperature"] < _COLDEST:
        best = itertools.chain(_likeliest(scores, _HEAD), _likeliest(scores, len(scores)))
        return next((int(token) for token in best if allows(int(token))), int(scores.argmax()))
    scores /= options["temperature"]
    for again in range(len(scores)):
        if again == _REFUSALS:  # next to nothing may come, as in the middle of a character: ask for all at once
            scores[[not allows(token) for token in range(len(scores))]] = -np.inf
        if not np.isfinite(scores.max()):
            break
        order, weights = _candidates(scores, options)
        share = uniform(options["seed"], *position, again)
        place = int(np.searchsorted(np.cumsum(weights), share * weights.sum(), side="right"))
        token = int(order[min(place, int(np.count_nonzero(weights)) - 1)])
        if allows(token):
            return token
        scores[token] = -np.inf
    return int(logits.argmax())


def _likeliest(scores: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """The `count` best tokens, the best first, equal ones by their ids."""
    count = min(count, len(scores))
    head = np.sort(np.argpartition(-scores, count - 1)[:count])
    return head[np.argsort(-scores[head], kind="stable")]


def _candidates(
    scores: NDArray[np.float64], options: Mapping[str, Any]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Tokens that may be drawn, the likeliest first, and their weights."""
    weights = np.exp(scores - scores.max())
    order = _likeliest(scores, options["top_k"] or _HEAD)
    total = weights[order].sum() if options["top_k"] else weights.sum()
    while True:
        head = weights[order]
        count = len(order)
        if options["top_p"] < 1:
            count = min(count, int(np.searchsorted(np.cumsum(head), options["top_p"] * total)) + 1)
        if options["min_p"] > 0:
            count = min(count, max(1, int((head >= options["min_p"] * head[0]).sum())))
        if count < len(order) or options["top_k"] or len(order) == len(scores):
            return order[:count], head[:count].copy()
        order = _likeliest(scores, len(scores))  # the head was not enough
