"""Predictor: a bundle on a device. Engine: its running batch, which rows join and leave."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from mlcore import models, task
from mlcore.batching import collate, to_device
from mlcore.bundle import Bundle
from mlcore.errors import BundleError, InvalidInput
from mlcore.task import JSON, Item, Task

logger = logging.getLogger(__name__)
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
                        self.rows[key].raws[index] = answer
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
            if isinstance(error, torch.OutOfMemoryError):
                torch.cuda.empty_cache()
            middle = len(items) // 2
            return self._answer(items[:middle]) + self._answer(items[middle:])


class Predictor:
    """A bundle loaded onto a device: cleaned inputs in, JSON out."""

    def __init__(self, bundle: Bundle, device: str = "cpu") -> None:
        self.bundle = bundle
        self.device = torch.device(choose_device(device))
        self.task: Task = task.get(bundle.task)
        self.assets = self.task.load_assets(bundle)
        self.model = load_model(bundle).to(self.device)

    def engine(self, slots: int = 0) -> Engine[Any]:
        """A running batch of so many rows, of the architecture's own kind; 0 means the task's own number."""
        kind = getattr(models.resolve(str(self.bundle.manifest["model"])), "Engine", Engine)
        return kind(self, slots or self.task.max_batch_size)  # type: ignore[no-any-return]

    def forward(self, items: Sequence[Item]) -> list[Any]:
        """Raw answers of a batch of items, in order."""
        batch = to_device(collate([item.features for item in items]), self.device)
        return self.model.predict(batch, [item.options for item in items])  # type: ignore[operator, no-any-return]

    def prepare(self, inputs: Any, options: Any = None) -> Item:
        """Clean and preprocess one request; InvalidInput says what is wrong."""
        return self.task.preprocess(*self.task.clean(inputs, options), self.assets)

    def predict(self, requests: Iterable[Any], options: Any = None, *, batch_size: int = 0) -> Iterator[JSON]:
        """Answers in order: `{"output"}` or `{"error": {"field", "message"}}`; memory does not grow with the number.

        A request is an object of inputs, or `{"inputs", "options"}`; `options` are those of requests without.
        """
        size = batch_size or self.task.max_batch_size
        window: list[Any] = []
        for request in requests:
            window.append(request)
            if len(window) == size:
                yield from self._predict(window, options)
                window = []
        yield from self._predict(window, options)

    def _predict(self, window: Sequence[Any], options: Any) -> list[JSON]:
        answers: dict[int, JSON] = {}
        if not window:
            return []
        engine: Engine[int] = self.engine(len(window))
        items: dict[int, Item] = {}
        for index, request in enumerate(window):
            try:
                items[index] = self.prepare(*_split_request(request, options, self.task.inputs))
            except InvalidInput as error:
                answers[index] = {"error": {"field": error.field, "message": error.message}}
        for index, item in items.items():
            engine.add(index, item)
        while engine.rows:
            for index, event in engine.step():
                if isinstance(event, Final):
                    answers[index] = {"output": event.output}
                elif isinstance(event, Failed):
                    answers[index] = {"error": describe(event.error)}
        return [answers[index] for index in range(len(window))]


def choose_device(name: str) -> str:
    """`auto` is the first GPU where there is one."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_model(bundle: Bundle) -> nn.Module:
    """Build the bundle's architecture and fill it; BundleError when they do not fit."""
    module = models.resolve(str(bundle.manifest["model"]))
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in bundle.config.items()}
    try:
        model: nn.Module = module.Model(module.Config(**values))
        model.load_state_dict({name: torch.from_numpy(value) for name, value in bundle.weights().items()})
    except (TypeError, RuntimeError, ValueError) as error:
        raise BundleError(f"{bundle.label} does not fit the model {bundle.manifest['model']!r}: {error}") from error
    return model.eval().requires_grad_(False)


def describe(error: Exception) -> dict[str, Any]:
    """An error as people read it; what is ours is logged and told in one neutral sentence."""
    if isinstance(error, InvalidInput):
        return {"field": error.field, "message": error.message}
    logger.error("a row failed", exc_info=error)
    return {"field": None, "message": "The model could not answer this. The fault is ours and has been logged."}


def _split_request(request: Any, options: Any, inputs: Mapping[str, Any]) -> tuple[Any, Any]:
    wrapped = isinstance(request, dict) and "inputs" in request and "inputs" not in inputs
    if not wrapped:
        return request, options
    unknown = sorted(set(request) - {"inputs", "options"})
    if unknown:
        raise InvalidInput(str(unknown[0]), "A request holds “inputs” and, if wanted, “options”; nothing else.")
    return request["inputs"], request.get("options", options)


def all_finite(value: Any) -> bool:
    """Whether every number in a JSON value is finite."""
    if isinstance(value, dict):
        return all(all_finite(entry) for entry in value.values())
    if isinstance(value, list):
        return all(all_finite(entry) for entry in value)
    return not isinstance(value, float) or math.isfinite(value)


def close(found: Any, expected: Any, tolerance: float) -> bool:
    """Whether two JSON values are equal, numbers within `tolerance`."""
    if isinstance(expected, dict):
        return (
            isinstance(found, dict)
            and found.keys() == expected.keys()
            and all(close(found[key], value, tolerance) for key, value in expected.items())
        )
    if isinstance(expected, list):
        same = isinstance(found, list) and len(found) == len(expected)
        return same and all(close(a, b, tolerance) for a, b in zip(found, expected, strict=True))
    if isinstance(expected, float) or isinstance(found, float):
        numbers = isinstance(found, int | float) and isinstance(expected, int | float)
        return numbers and abs(found - expected) <= tolerance
    return bool(found == expected)


def self_test(predictor: Predictor) -> None:
    """Run the bundle's own examples, in one batch; BundleError names the first that differs."""
    stored = predictor.bundle.read_json("examples.json")
    spec, folder = predictor.task, predictor.bundle.path
    requests = [
        {"inputs": spec.locate(example["inputs"], folder), "options": example["options"]}
        for example in stored["examples"]
    ]
    for number, (answer, example) in enumerate(
        zip(predictor.predict(requests), stored["examples"], strict=True), start=1
    ):
        if not close(answer.get("output"), example["output"], stored["tolerance"]):
            raise BundleError(f"{predictor.bundle.label}: example {number} is answered differently than stored.")


def set_threads(number: int) -> None:
    """How many cores one operation may use; must be said before the first one runs."""
    torch.set_num_threads(number or os.cpu_count() or 1)
