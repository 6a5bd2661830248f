"""Engine: the running batch of a predictor, which rows join and leave; what it tells of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch

from mlcore.task import JSON, Item

if TYPE_CHECKING:
    from mlcore.predictor import Predictor

Key = TypeVar("Key")


@dataclass(frozen=True)
class Partial:
    """What is known of an answer so far; the row goes on."""

    parts: dict[int, JSON]  # those that this step answered, by their place
    done: int
    total: int


@dataclass(frozen=True)
class Final:
    """The whole answer; the row has left the batch."""

    output: JSON


@dataclass(frozen=True)
class Failed:
    """The row has left the batch without an answer."""

    error: Exception


Event = Partial | Final | Failed


@dataclass
class _Row:
    """A row in the batch: its parts, their raw answers, and the first one not yet begun."""

    item: Item
    parts: Sequence[Item]
    raws: dict[int, Any] = field(default_factory=dict)
    begun: int = 0


class Engine(Generic[Key]):
    """The running batch: a step is collate + forward of the next parts of all rows, and rows without more are final.

    A decoder that emits step by step overrides `step`, so that rows join and leave between steps.
    """

    def __init__(self, predictor: Predictor, slots: int) -> None:
        self.predictor = predictor
        self.slots = slots
        self.rows: dict[Key, _Row] = {}

    @property
    def free_slots(self) -> int:
        """How many rows may still be added."""
        return self.slots - len(self.rows)

    def add(self, key: Key, item: Item) -> None:
        """Put a row into the batch; it is worked on from the next step."""
        if self.free_slots <= 0:
            raise ValueError("The engine has no free slot.")
        self.rows[key] = _Row(item, [item] if item.parts is None else item.parts)

    def abort(self, key: Key) -> None:
        """Take a row out; one that is not there is no matter."""
        self.rows.pop(key, None)

    def snapshot(self, key: Key) -> JSON | None:
        """The output of a row that is stopped now, where half an answer is worth keeping."""
        return None

    def step(self) -> list[tuple[Key, Event]]:
        """Work on the next parts of all rows, in turns; a row that cannot be answered fails alone."""
        places = self._next()
        fresh: dict[Key, dict[int, JSON]] = {key: {} for key in self.rows}
        failed: dict[Key, Failed] = {}
        for group in self._groups(places):
            for chunk in self._chunks(group):
                answers = self._answer([self.rows[key].parts[index] for key, index in chunk])
                for (key, index), answer in zip(chunk, answers, strict=True):
                    if isinstance(answer, Failed):
                        failed[key] = answer
                    else:
                        row = self.rows[key]
                        row.raws[index] = self.predictor.task.condense(answer, row.parts[index])
                        fresh[key][index] = answer
        found: list[tuple[Key, Event]] = []
        for key, row in list(self.rows.items()):
            event = failed.get(key) or self._event(row, fresh[key])
            if event is not None:
                found.append((key, event))
            if isinstance(event, Final | Failed):
                del self.rows[key]
        return found

    def _next(self) -> list[tuple[Key, int]]:
        """The parts of this step: one of each row in turn, until the batch is full."""
        limit = max(self.slots, self.predictor.task.max_batch_size)
        places: list[tuple[Key, int]] = []
        waiting = list(self.rows.items())
        while waiting and len(places) < limit:
            for key, row in waiting[: limit - len(places)]:
                if row.begun < len(row.parts):
                    places.append((key, row.begun))
                    row.begun += 1
            waiting = [(key, row) for key, row in waiting if row.begun < len(row.parts)]
        return places

    def _event(self, row: _Row, fresh: dict[int, Any]) -> Event | None:
        spec, assets = self.predictor.task, self.predictor.assets
        try:
            if len(row.raws) == len(row.parts):
                raws = [row.raws[index] for index in range(len(row.parts))]
                output = spec.postprocess(raws if row.item.parts is not None else raws[0], row.item, assets)
                if not all_finite(output):
                    raise FloatingPointError("The answer is not a finite number.")
                return Final(output)
            if not fresh:
                return None
            parts = {
                index: spec.postprocess_part(raw, row.parts[index], assets) for index, raw in sorted(fresh.items())
            }
        except Exception as error:
            return Failed(error)
        return Partial(parts, len(row.raws), len(row.parts))

    def _groups(self, places: list[tuple[Key, int]]) -> list[list[tuple[Key, int]]]:
        """Parts that may share a forward pass: those whose rows' batch-scoped options are the same."""
        groups: dict[str, list[tuple[Key, int]]] = {}
        for key, index in places:
            options = dict(self.rows[key].item.options)
            shared = json.dumps(self.predictor.task.batch_options(options), sort_keys=True)
            groups.setdefault(shared, []).append((key, index))
        return list(groups.values())

    def _chunks(self, places: list[tuple[Key, int]]) -> Iterator[list[tuple[Key, int]]]:
        """Like lengths together, cut where padding to the longest would exceed the task's cost cap."""
        spec = self.predictor.task
        cap = spec.max_batch_cost_cpu if self.predictor.device.type == "cpu" else spec.max_batch_cost

        def cost(place: tuple[Key, int]) -> int:
            return self.rows[place[0]].parts[place[1]].cost

        chunk: list[tuple[Key, int]] = []
        for place in sorted(places, key=cost):
            if chunk and cost(place) * (len(chunk) + 1) > cap:
                yield chunk
                chunk = []
            chunk.append(place)
        if chunk:
            yield chunk

    def _answer(self, items: list[Item]) -> list[Any]:
        """Raw answers or Failed, in order; a batch that raises is cut in two until the culprit stands alone."""
        try:
            return self.predictor.forward(items)
        except Exception as error:
            if len(items) == 1:
                return [Failed(error)]
            full = isinstance(error, torch.OutOfMemoryError)
        # behind the handler: as long as the error lives, so does all that the failed step had in its memory
        if full:
            torch.cuda.empty_cache()
        middle = len(items) // 2
        return self._answer(items[:middle]) + self._answer(items[middle:])


def all_finite(value: Any) -> bool:
    """Whether every number in a JSON value is finite."""
    if isinstance(value, dict):
        return all(all_finite(entry) for entry in value.values())
    if isinstance(value, list):
        return all(all_finite(entry) for entry in value)
    return not isinstance(value, float) or math.isfinite(value)
