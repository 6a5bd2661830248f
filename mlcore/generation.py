"""Continuous batching for a recurrent language model: rows join and leave between any two tokens.

An RNN's state has a fixed size, so a finished row's place is taken by the next waiting one at once, and a token costs
the same however long its text is. Token n of a continuation is drawn from (seed, continuation, n) alone: the same
request gives the same text alone, in a batch, or taken up again after a crash.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlcore.engine import Engine, Event, Failed, Final, Partial
from mlcore.predictor import Predictor
from mlcore.task import JSON, Item

Key = TypeVar("Key", bound=Hashable)
STEP_S = 0.04  # tokens are made for so long before a step tells of them: a stop takes effect within it
PROMPTS_A_STEP = 4  # new rows read in one step, so that running ones hardly wait
TOP = 5


class Continuation(Protocol):
    """What a task gives for each text that is to be written; it decides when that ends."""

    prompt: Sequence[int]  # tokens to be read, one at least
    written: Sequence[int]  # tokens made already, of a job that is taken up again
    voice: int
    number: int  # of this continuation among those of its row
    limit: int  # tokens that it may have
    finished: bool

    def allows(self, token: int) -> bool:
        """Whether a token may come next."""

    def push(self, token: int, logprob: float, top: list[tuple[int, float]]) -> None:
        """Take the next token, its log-probability and the likeliest five with their probabilities."""

    def fresh(self) -> dict[str, Any]:
        """What came since this was asked last, as JSON; empty when nothing did."""


@dataclass
class _Lane:
    """A continuation in the running batch."""

    text: Continuation
    options: Mapping[str, Any]
    made: int = 0
    recent: list[int] = field(default_factory=list)


class TokenEngine(Engine[Key]):
    """A step makes tokens for `STEP_S` seconds, for all rows together."""

    def __init__(self, predictor: Predictor, slots: int) -> None:
        super().__init__(predictor, slots)
        self.texts: dict[Key, list[Continuation]] = {}
        self.waiting: list[tuple[Key, _Lane]] = []
        self.lanes: list[tuple[Key, _Lane]] = []
        self.state: list[tuple[Tensor, Tensor]] = []
        self.last: Tensor | None = None  # (N,)

    def add(self, key: Key, item: Item) -> None:
        """Put a row into the batch; its prompt is read at the next step."""
        super().add(key, item)
        self.texts[key] = list(item.context.continuations)
        for text in self.texts[key]:
            if not text.finished:
                self.waiting.append((key, _Lane(text, item.options, len(text.written), list(text.written)[-256:])))

    def abort(self, key: Key) -> None:
        """Take a row out; its state goes with it."""
        super().abort(key)
        self.texts.pop(key, None)
        self.waiting = [(other, lane) for other, lane in self.waiting if other != key]
        self._keep([other != key for other, _ in self.lanes])

    def snapshot(self, key: Key) -> JSON | None:
        """What was written so far."""
        if key not in self.rows:
            return None
        return self.predictor.task.postprocess(None, self.rows[key].item, self.predictor.assets)

    def step(self) -> list[tuple[Key, Event]]:
        """Read the prompts of new rows, then make tokens for a while."""
        found: list[tuple[Key, Event]] = []
        with torch.inference_mode():
            for _ in range(min(PROMPTS_A_STEP, len(self.waiting))):
                key, lane = self.waiting.pop(0)
                try:
                    self._join(key, lane)
                except Exception as error:
                    found.append((key, Failed(error)))
            end = time.monotonic() + STEP_S
            while self.lanes:
                failed = self._advance()
                found += failed
                if time.monotonic() >= end:
                    break
        gone = {key for key, _ in found}
        for key in gone:
            self.abort(key)
        return found + [event for key in list(self.rows) for event in self._tell(key)]

    def _tell(self, key: Key) -> Iterator[tuple[Key, Event]]:
        """What came since the last step, and the whole answer where that is its end."""
        texts = self.texts[key]
        if parts := {text.number: fresh for text in texts if (fresh := text.fresh())}:
            yield key, Partial(parts, sum(len(text.written) for text in texts), sum(text.limit for text in texts))
        if all(text.finished for text in texts):
            item = self.rows[key].item
            self.abort(key)
            try:
                yield key, Final(self.predictor.task.postprocess(None, item, self.predictor.assets))
            except Exception as error:
                yield key, Failed(error)

    def _join(self, key: Key, lane: _Lane) -> None:
        """Read a prompt, and what was written before, but for its last token, which the next step reads."""
        device = self.predictor.device
        tokens = [*lane.text.prompt, *lane.text.written]
        model: Any = self.predictor.model
        state = None
        for start in range(0, len(tokens) - 1, 512):
            piece = torch.tensor([tokens[start : min(start + 512, len(tokens) - 1)]], device=device)
            _, state = model(piece, torch.full_like(piece, lane.text.voice), state)
        if state is None:
            state = [
                (
                    torch.zeros(1, 1, layer.hidden_size, device=device),
                    torch.zeros(1, 1, layer.hidden_size, device=device),
                )
                for layer in model.layers.layers
            ]
        last = torch.tensor([tokens[-1]], device=device)
        if self.lanes and self.last is not None:
            self.state = [
                (torch.cat([h, new_h], dim=1), torch.cat([c, new_c], dim=1))
                for (h, c), (new_h, new_c) in zip(self.state, state, strict=True)
            ]
            self.last = torch.cat([self.last, last])
        else:
            self.state, self.last = state, last
        self.lanes.append((key, lane))

    def _advance(self) -> list[tuple[Key, Event]]:
        """One token for every row."""
        assert self.last is not None
        model: Any = self.predictor.model
        voices = torch.tensor([lane.text.voice for _, lane in self.lanes], device=self.last.device)
        hidden, self.state = model(self.last[:, None], voices[:, None], self.state)
        logits = model.logits(hidden[:, 0]).float()  # (N, V)
        log_p = logits.log_softmax(dim=-1)
        top = log_p.topk(TOP, dim=-1)
        rows = logits.cpu().numpy()
        chosen: list[int] = []
        failed: list[tuple[Key, Event]] = []
        for place, (key, lane) in enumerate(self.lanes):
            if not np.isfinite(rows[place]).all():
                failed.append((key, Failed(FloatingPointError("The model's answer is not a finite number."))))
                chosen.append(0)
                continue
            best = [(int(i), float(p)) for i, p in zip(top.indices[place], top.values[place].exp(), strict=True)]
            try:
                where = (lane.text.number, lane.made)
                token = draw(rows[place], lane.options, lane.recent, position=where, allows=lane.text.allows)
                lane.text.push(token, float(log_p[place, token]), best)
            except Exception as error:
                failed.append((key, Failed(error)))
                chosen.append(0)
                continue
            lane.made += 1
            lane.recent = [*lane.recent[-255:], token]
            chosen.append(token)
        self.last = torch.tensor(chosen, device=self.last.device)
        self._keep([not lane.text.finished for _, lane in self.lanes])
        return failed

    def _keep(self, kept: list[bool]) -> None:
        """Drop lanes, and their rows of the state."""
        if all(kept) or self.last is None:
            return
        rows = torch.tensor(
            [place for place, keep in enumerate(kept) if keep], dtype=torch.long, device=self.last.device
        )
        self.lanes = [lane for lane, keep in zip(self.lanes, kept, strict=True) if keep]
        self.state = [(h.index_select(1, rows), c.index_select(1, rows)) for h, c in self.state]
        self.last = self.last.index_select(0, rows)


def uniform(seed: int, number: int, position: int) -> float:
    """A number from 0 to 1 that depends on nothing but these three."""
    digest = hashlib.blake2b(f"{seed}/{number}/{position}".encode(), digest_size=8).digest()
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
    A candidate that `allows` refuses is passed over.
    """
    scores = logits.astype(np.float64)
    penalty = options["repetition_penalty"]
    if penalty != 1.0 and recent:
        seen = np.unique(np.asarray(recent))
        scores[seen] = np.where(scores[seen] > 0, scores[seen] / penalty, scores[seen] * penalty)
    if options["temperature"] == 0:
        best = itertools.chain(_likeliest(scores, _HEAD), _likeliest(scores, len(scores)))
        return next((int(token) for token in best if allows(int(token))), int(scores.argmax()))
    order, weights = _candidates(scores / options["temperature"], options)
    share = uniform(options["seed"], *position)
    while weights.sum() > 0:
        place = min(int(np.searchsorted(np.cumsum(weights), share * weights.sum(), side="right")), len(order) - 1)
        if allows(int(order[place])):
            return int(order[place])
        weights[place] = 0.0
    return next((int(token) for token in _likeliest(scores, len(scores)) if allows(int(token))), int(order[0]))


_HEAD = 256  # candidates that are sorted; more only where the options let more in


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
