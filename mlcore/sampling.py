"""Drawing the next token: narrowed candidates, and chance that depends on a seed and a place alone."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_REFUSALS = 32  # tokens refused one by one before all are asked for
_COLDEST = 1e-3  # temperatures below are 0: dividing by them leaves one token anyway, or overflows
_DRAWS = 8  # before candidates are sorted


def uniform(seed: int, number: int, position: int, again: int = 0) -> float:
    """A number from 0 to 1 that depends on nothing but these; `again` counts draws that were thrown away."""
    name = f"{seed}/{number}/{position}" + (f"/{again}" if again else "")
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


@dataclass
class Draws:
    """The next tokens of continuations that are written side by side.

    What most tokens need is done for all rows at once; a row whose first draw does not count goes on alone with `draw`.
    Arguments are those of `draw`, one a row.
    """

    logits: Tensor  # (N, V)
    options: Sequence[Mapping[str, Any]]
    recent: Sequence[Sequence[int]]
    positions: Sequence[tuple[int, int]]
    refused: Sequence[NDArray[np.bool_]]
    narrow: Tensor | None = None  # (N, V)
    seen: list[NDArray[np.intp]] = field(init=False)  # tokens whose repetition has its penalty
    first: list[int] = field(init=False)  # -1 where the first draw does not count

    def __post_init__(self) -> None:
        barred = self._barred()
        self.seen = [
            np.asarray(recent if options["repetition_penalty"] != 1 else (), dtype=np.intp)
            for options, recent in zip(self.options, self.recent, strict=True)
        ]
        shares = self._shares(self.logits, barred)
        own = shares if self.narrow is None else self._shares(self.narrow, barred)
        best = own.amax(dim=1, keepdim=True)
        chances = [
            uniform(options["seed"], *place) for options, place in zip(self.options, self.positions, strict=True)
        ]
        mass = shares.cumsum(dim=1)
        drawn = torch.searchsorted(mass, torch.tensor(chances)[:, None] * mass[:, -1:], right=True)
        drawn.clamp_(max=own.shape[1] - 1)
        share = own.gather(1, drawn)
        more = own - share
        # as likely ones come before it for now: where they decide, `draw` asks for their order
        before = more.clamp(min=0).sum(dim=1, keepdim=True)
        before += share * (torch.ge(more, 0, out=torch.empty_like(more)).sum(dim=1, keepdim=True) - 1)
        most = self._column("top_p")
        kept = (share > 0) & (share >= self._column("min_p") * best) & ((most == 1) | (before < most))
        kept &= (self._column("top_k") <= 0) & (self._column("temperature") >= _COLDEST) & best.isfinite()
        self.first = torch.where(kept, drawn, -1)[:, 0].tolist()

    def token(self, row: int, allows: Callable[[int], bool]) -> int:
        """The next token of a row."""
        if self.first[row] >= 0 and allows(self.first[row]):
            return self.first[row]
        return draw(
            self.logits[row].numpy(),
            self.options[row],
            self.recent[row],
            position=self.positions[row],
            allows=allows,
            refused=self.refused[row],
            narrow=None if self.narrow is None else self.narrow[row].numpy(),
        )

    def _column(self, option: str) -> Tensor:
        """An option's values (N, 1)."""
        return torch.tensor([[float(options[option])] for options in self.options])

    def _barred(self) -> Tensor:
        """(N, V) or, where it is the same for all, (1, V): what is added to logits, -inf for what is refused."""
        kinds = {id(mask): mask for mask in self.refused}
        rows = {
            key: torch.zeros(len(mask)).masked_fill_(torch.from_numpy(mask), -torch.inf) for key, mask in kinds.items()
        }
        return torch.stack([rows[id(mask)] for mask in self.refused] if len(rows) > 1 else [*rows.values()])

    def _shares(self, logits: Tensor, barred: Tensor) -> Tensor:
        """Probabilities after the repetition penalty and at the temperature, without what is refused."""
        scores = logits + barred
        for row, options, seen in zip(scores.numpy(), self.options, self.seen, strict=True):
            if len(seen):
                _penalise(row, options["repetition_penalty"], seen)
        return scores.div_(self._column("temperature").clamp(min=_COLDEST)).softmax(dim=1)


def draw(
    logits: NDArray[np.float32],
    options: Mapping[str, Any],
    recent: Sequence[int],
    *,
    position: tuple[int, int],
    allows: Callable[[int], bool],
    refused: NDArray[np.bool_] | None = None,
    narrow: NDArray[np.float32] | None = None,
) -> int:
    """The next token of a continuation: logits (V,), `position` its number and the number of the token.

    `narrow` (V,) are other logits by which candidates are narrowed before one is drawn by `logits`, and the likeliest
    chosen at temperature 0: what a cache adds to unlikely tokens is not drawn.

    Temperature 0 takes the likeliest. Otherwise candidates are narrowed by top-k, then top-p (Holtzman et al. 2020,
    https://arxiv.org/abs/1904.09751) and min-p, and one is drawn by inverting their distribution.
    What is `refused` (V,) has no probability: the others are narrowed and drawn from as if it were not there. What only
    `allows` refuses counts as a candidate until it is drawn, then it is refused and the rest narrowed and drawn anew.
    """
    greedy = options["temperature"] < _COLDEST
    places = np.asarray(recent, dtype=np.intp)
    scores = _scores(logits, options, places, refused)
    own = scores if narrow is None else _scores(narrow, options, places, refused)
    chances = (uniform(options["seed"], *position, again) for again in itertools.count())
    for tried in range(len(scores)):
        if tried == _REFUSALS:  # next to nothing may come: ask for all at once
            gone = [not allows(token) for token in range(len(scores))]
            scores[gone] = own[gone] = -np.inf
        best = int(own.argmax())
        if not np.isfinite(own[best]):
            break
        if greedy:
            token = best
        else:
            weights = np.exp(own - own[best])
            # beside the best candidate's, which is not too small for a float; what dwarfs it is none
            both = weights if own is scores else np.exp(np.minimum(scores - scores[best], 80))
            token = _drawn(weights, both, options, chances)
        if allows(token):
            return token
        scores[token] = own[token] = -np.inf
    # nothing is allowed: at least no half of a character
    return int((logits if refused is None else np.where(refused, -np.inf, logits)).argmax())


def _scores(
    logits: NDArray[np.float32], options: Mapping[str, Any], recent: NDArray[np.intp], refused: NDArray[np.bool_] | None
) -> NDArray[np.float32]:
    """Logits after the repetition penalty and the temperature, without what is refused."""
    scores = logits.copy()
    if options["repetition_penalty"] != 1 and len(recent):
        _penalise(scores, options["repetition_penalty"], recent)
    if options["temperature"] >= _COLDEST:
        scores /= options["temperature"]
    if refused is not None:
        scores[refused] = -np.inf
    return scores


def _penalise(scores: NDArray[np.float32], penalty: float, recent: NDArray[np.intp]) -> None:
    """Make what came lately less likely, in place (Keskar et al. 2019, https://arxiv.org/abs/1909.05858)."""
    seen = scores[recent]
    scores[recent] = np.where(seen > 0, seen / penalty, seen * penalty)


def _drawn(
    own: NDArray[np.float32], weights: NDArray[np.float32], options: Mapping[str, Any], chances: Iterator[float]
) -> int:
    """A token drawn by `weights` from those that the options leave by their `own` (the best one's is 1).

    Drawn from all, and again where it is none of those left: the same distribution, and nothing is sorted, which for a
    thousand tokens a second is what drawing would cost. Where few are left, they are sorted after all.
    """
    if 0 < options["top_k"] < len(own):
        own = _only_top(own, options["top_k"])
    mass = np.cumsum(weights, dtype=np.float64)
    most, least = options["top_p"] * own.sum(dtype=np.float64), options["min_p"]
    for chance in itertools.islice(chances, _DRAWS):
        token = min(int(np.searchsorted(mass, chance * mass[-1], side="right")), len(own) - 1)
        weight = own[token]
        if weight > 0 and weight >= least and (options["top_p"] == 1 or _mass_before(own, token) < most):
            return token
    left = np.flatnonzero((own >= least) & (own > 0))
    order = left[np.argsort(-own[left], kind="stable")]
    order = order[: int(np.searchsorted(np.cumsum(own[order], dtype=np.float64), most)) + 1]
    mass = np.cumsum(weights[order], dtype=np.float64)
    return int(order[min(int(np.searchsorted(mass, next(chances) * mass[-1], side="right")), len(order) - 1)])


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
