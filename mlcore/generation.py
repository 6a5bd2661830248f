"""Continuous batching for a recurrent language model: rows join and leave between any two tokens.

An RNN's state has a fixed size, so a finished row's place is taken by the next waiting one at once, and a token costs
the same however long its text is (a cache, where the model has one, fills up to a fixed size of its own). Token n of a
continuation is drawn from (seed, continuation, n) alone: the same request gives the same text alone, in a batch, or
taken up again after a crash, but for rounding (batches of other sizes use other kernels; a draw that falls between two
tokens by less than a thousandth may then fall to the other).
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlcore.engine import Engine, Event, Failed, Final, Partial
from mlcore.models.continuous_cache import Cache
from mlcore.predictor import Predictor
from mlcore.sampling import Draws
from mlcore.task import JSON, Item

Key = TypeVar("Key", bound=Hashable)
STEP_S = 0.04  # tokens are made for so long before a step tells of them and a stop takes effect
CROWD = 16  # with so many texts twice as long: telling takes time from writing
READ_S = 0.04  # new prompts are read for so long in one step, so that running texts hardly wait
READ_AT_ONCE = 128  # tokens
TOP = 16  # likeliest tokens that a text is told of; it shows those of them that might have come


class Continuation(Protocol):
    """What a task gives for each text that is to be written; it decides when that ends."""

    prompt: Sequence[int]  # tokens to be read, one at least
    written: Sequence[int]  # tokens made already, of a job that is taken up again
    voice: int
    number: int  # of this continuation among those of its row
    limit: int  # tokens that it may have
    finished: bool
    refused: NDArray[np.bool_]  # (V,) tokens that may not come next

    def allows(self, token: int) -> bool:
        """Whether a token may come next, also by what it would spell."""

    def push(self, token: int, logprob: float, top: list[tuple[int, float]]) -> None:
        """Take the next token, its log-probability and the `TOP` likeliest with their probabilities."""

    def fresh(self) -> dict[str, Any]:
        """What came since this was asked last, as JSON; empty when nothing did."""


@dataclass
class _Lane:
    """A continuation in the running batch, or on its way into it."""

    text: Continuation
    options: Mapping[str, Any]
    made: int
    recent: list[int]
    tokens: list[int]  # to be read before the next one is made; the last of them is read by that step itself
    read: int = 0
    state: list[tuple[Tensor, Tensor]] | None = None  # of each layer h and c (1, 1, H), once something was read
    cache: Cache | None = None  # of one row, where the model has one

    @classmethod
    def of(cls, text: Continuation, options: Mapping[str, Any]) -> _Lane:
        """A text that begins, or is taken up where it was."""
        written = list(text.written)
        return cls(text, options, len(written), written[-256:], [*text.prompt, *written])

    @property
    def is_read(self) -> bool:
        """Whether it can join."""
        return self.state is not None and self.read >= len(self.tokens) - 1


class TokenEngine(Engine[Key]):
    """A step makes tokens for `STEP_S` seconds and, the more rows, the longer, for all rows together."""

    def __init__(self, predictor: Predictor, slots: int) -> None:
        super().__init__(predictor, slots)
        self.texts: dict[Key, list[Continuation]] = {}
        self.waiting: list[tuple[Key, _Lane]] = []
        self.lanes: list[tuple[Key, _Lane]] = []
        self.state: list[tuple[Tensor, Tensor]] = []
        self.last: Tensor | None = None  # (N,)
        self.cache: Cache | None = None

    @property
    def state_bytes(self) -> int:
        """Memory of the running rows' states."""
        cached = (self.cache.keys, self.cache.ids) if self.cache else ()
        return sum(part.nbytes for part in (*(part for layer in self.state for part in layer), *cached))

    def add(self, key: Key, item: Item) -> None:
        """Put a row into the batch; its prompt is read at the next step."""
        super().add(key, item)
        self.texts[key] = list(item.context.continuations)
        for text in self.texts[key]:
            if not text.finished:
                self.waiting.append((key, _Lane.of(text, item.options)))

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
        """Read the prompts of new rows for a while, then make tokens for a while."""
        found: list[tuple[Key, Event]] = []
        with torch.inference_mode():
            end = time.monotonic() + READ_S
            ready: list[tuple[Key, _Lane]] = []
            while self.waiting:
                found += self._read(ready)
                if time.monotonic() >= end:
                    break
            self._join([(key, lane) for key, lane in ready if key in self.rows])
            end = time.monotonic() + STEP_S * (1 + len(self.lanes) / CROWD)
            while self.lanes:
                found += self._advance()
                if time.monotonic() >= end:
                    break
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

    def _read(self, ready: list[tuple[Key, _Lane]]) -> list[tuple[Key, Event]]:
        """Read some tokens of the first text that waits; when all are read it is ready, with those that begin alike.

        Where some are left, the next row has its turn: a short prompt does not wait for all of a long one.
        """
        key, lane = self.waiting[0]
        try:
            self._read_some(lane)
        except Exception as error:
            self.abort(key)
            return [(key, Failed(error))]
        if lane.is_read:
            for other, twin in self.waiting[1:]:
                if other == key and twin.tokens == lane.tokens:
                    twin.read, twin.state, twin.cache = lane.read, lane.state, lane.cache
            ready += [(other, twin) for other, twin in self.waiting if twin.is_read]
            self.waiting = [(other, twin) for other, twin in self.waiting if not twin.is_read]
        else:
            self.waiting.sort(key=lambda one: one[0] == key)
        return []

    def _read_some(self, lane: _Lane) -> None:
        device = self.predictor.device
        model: Any = self.predictor.model
        piece = lane.tokens[lane.read : min(lane.read + READ_AT_ONCE, len(lane.tokens) - 1)]
        if lane.cache is None and model.config.cache:
            lane.cache = Cache.empty(model.config.cache, 1, model.config.embed_dim, device=device)
        if piece:
            tokens = torch.tensor([piece], device=device)
            hidden, lane.state = model(tokens, torch.full_like(tokens, lane.text.voice), lane.state)
            if lane.cache:
                following = lane.tokens[lane.read + 1 : lane.read + 1 + len(piece)]
                lane.cache.push(hidden, torch.tensor([following], device=device))
            lane.read += len(piece)
        if lane.state is None:
            sizes = [layer.hidden_size for layer in model.layers.layers]
            zeros = [torch.zeros(1, 1, size, device=device) for size in sizes]
            lane.state = [(zero, zero) for zero in zeros]

    def _join(self, ready: Sequence[tuple[Key, _Lane]]) -> None:
        """Put texts whose beginnings are read into the running batch, all at once: that copies it."""
        if not ready:
            return
        states = [self.state] if self.lanes else []
        states += [lane.state for _, lane in ready if lane.state]
        self.state = [
            (torch.cat([h for h, _ in parts], dim=1), torch.cat([c for _, c in parts], dim=1))
            for parts in zip(*states, strict=True)
        ]
        last = torch.tensor([lane.tokens[-1] for _, lane in ready], device=self.predictor.device)
        self.last = torch.cat([self.last, last]) if self.lanes and self.last is not None else last
        caches = [self.cache] if self.lanes and self.cache else []
        caches += [lane.cache for _, lane in ready if lane.cache]
        self.cache = Cache.joined(caches) if caches else None
        for _, lane in ready:
            lane.state = lane.cache = None
        self.lanes += ready

    def _advance(self) -> list[tuple[Key, Event]]:
        """One token for every row; one that cannot go on is taken out."""
        assert self.last is not None
        model: Any = self.predictor.model
        voices = torch.tensor([lane.text.voice for _, lane in self.lanes], device=self.last.device)
        hidden, self.state = model(self.last[:, None], voices[:, None], self.state)
        logits = own = model.logits(hidden[:, 0]).float()  # (N, V)
        if self.cache:
            logits = self.cache.mixed(own, hidden[:, 0])
        log_p = logits.log_softmax(dim=-1)
        top = log_p.topk(TOP, dim=-1)
        likeliest = zip(top.indices.tolist(), top.values.exp().tolist(), strict=True)
        rows, known = logits.cpu(), log_p.cpu().numpy()
        draws = Draws(
            rows,
            [lane.options for _, lane in self.lanes],
            [lane.recent for _, lane in self.lanes],
            [(lane.text.number, lane.made) for _, lane in self.lanes],
            [lane.text.refused for _, lane in self.lanes],
            own.cpu() if self.cache else None,
        )
        finite = rows.sum(dim=1).isfinite().tolist()
        chosen: list[int] = []
        failed: list[tuple[Key, Event]] = []
        for place, ((key, lane), (best, shares)) in enumerate(zip(self.lanes, likeliest, strict=True)):
            if not finite[place]:
                failed.append((key, Failed(FloatingPointError("The model's answer is not a finite number."))))
                chosen.append(0)
                continue
            try:
                token = draws.token(place, lane.text.allows)
                lane.text.push(token, float(known[place, token]), list(zip(best, shares, strict=True)))
            except Exception as error:
                failed.append((key, Failed(error)))
                chosen.append(0)
                continue
            lane.made += 1
            lane.recent = [*lane.recent[-255:], token]
            chosen.append(token)
        self.last = torch.tensor(chosen, device=self.last.device)
        if self.cache:
            self.cache.push(hidden, self.last[:, None])
        self._keep([not lane.text.finished for _, lane in self.lanes])
        for key, _ in failed:
            self.abort(key)
        return list(dict(failed).items())

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
        self.cache = self.cache.select(rows) if self.cache else None
