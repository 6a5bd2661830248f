"""Drawing the next token: narrowed candidates, and chance that depends on a seed and a place alone."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_REFUSALS = 32  # tokens refused one by one before all are asked for
_COLDEST = 1e-3  # temperatures below are 0: dividing by them leaves one token anyway, or overflows
_DRAWS = 8  # before candidates are sorted


def uniform(seed: int, number: int, position: int, again: int = 0) -> float:
    """A number from 0 to 1 that depends on nothing but these; `again` counts draws that were thrown away."""
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
    refused: NDArray[np.bool_] | None = None,
) -> int:
    """The next token of a continuation: logits (V,), `position` its number and the number of the token.

    Temperature 0 takes the likeliest. Otherwise candidates are narrowed by top-k, then top-p (Holtzman et al. 2020,
    https://arxiv.org/abs/1904.09751) and min-p, and one is drawn by inverting their distribution.
    What is `refused` (V,) has no probability: the others are narrowed and drawn from as if it were not there. What only
    `allows` refuses counts as a candidate until it is drawn, then it is refused and the rest narrowed and drawn anew.
    """
    scores = logits.copy()
    penalty = options["repetition_penalty"]
    if penalty != 1.0 and len(recent):
        places = np.asarray(recent)
        seen = scores[places]
        scores[places] = np.where(seen > 0, seen / penalty, seen * penalty)
    greedy = options["temperature"] < _COLDEST
    if not greedy:
        scores /= options["temperature"]
    if refused is not None:
        scores[refused] = -np.inf
    chances = (uniform(options["seed"], *position, again) for again in itertools.count())
    for tried in range(len(scores)):
        if tried == _REFUSALS:  # next to nothing may come: ask for all at once
            scores[[not allows(token) for token in range(len(scores))]] = -np.inf
        best = int(scores.argmax())
        if not np.isfinite(scores[best]):
            break
        token = best if greedy else _drawn(np.exp(scores - scores[best]), options, chances)
        if allows(token):
            return token
        scores[token] = -np.inf
    # nothing is allowed: at least no half of a character
    return int((logits if refused is None else np.where(refused, -np.inf, logits)).argmax())


def _drawn(weights: NDArray[np.float32], options: Mapping[str, Any], chances: Iterator[float]) -> int:
    """A token drawn by its weight (the best one's is 1) from those that the options leave.

    Drawn from all, and again where it is none of those left: the same distribution, and nothing is sorted, which for a
    thousand tokens a second is what drawing would cost. Where few are left, they are sorted after all.
    """
    if 0 < options["top_k"] < len(weights):
        weights = _only_top(weights, options["top_k"])
    mass = np.cumsum(weights, dtype=np.float64)
    most, least = options["top_p"] * mass[-1], options["min_p"]
    for chance in itertools.islice(chances, _DRAWS):
        token = min(int(np.searchsorted(mass, chance * mass[-1], side="right")), len(weights) - 1)
        weight = weights[token]
        if weight > 0 and weight >= least and (options["top_p"] == 1 or _mass_before(weights, token) < most):
            return token
    left = np.flatnonzero((weights >= least) & (weights > 0))
    order = left[np.argsort(-weights[left], kind="stable")]
    mass = np.cumsum(weights[order], dtype=np.float64)
    count = min(int(np.searchsorted(mass, most)) + 1, len(order))
    return int(order[min(int(np.searchsorted(mass[:count], next(chances) * mass[count - 1], side="right")), count - 1)])


def _only_top(weights: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Zero for all but the `count` likeliest; of equal ones those with the lower ids stay."""
    bar = np.partition(weights, -count)[-count]
    kept = weights > bar
    kept[np.flatnonzero(weights == bar)[: count - int(kept.sum())]] = True
    return np.where(kept, weights, np.float32(0))


def _mass_before(weights: NDArray[np.float32], token: int) -> float:
    """What the tokens weigh that come before this one, the likeliest first, equal ones by their ids."""
    weight = weights[token]
    ties = int(np.count_nonzero(weights[:token] == weight))
    return float(weights[weights > weight].sum(dtype=np.float64)) + ties * float(weight)
