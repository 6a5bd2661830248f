"""Predictor: a bundle on a device."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mlcore import models, task
from mlcore.batching import collate, to_device
from mlcore.bundle import Bundle
from mlcore.engine import Engine, Failed, Final
from mlcore.errors import NEUTRAL, BundleError, InvalidInput
from mlcore.fields import readable
from mlcore.task import JSON, Item, Task

logger = logging.getLogger(__name__)


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
        if window:
            yield from self._predict(window, options)

    def _predict(self, window: Sequence[Any], options: Any) -> list[JSON]:
        *_, answers = self.stepwise(window, options)
        return answers

    def stepwise(self, window: Sequence[Any], options: Any = None) -> Iterator[list[JSON]]:
        """As `predict`, of one batch: nothing behind each row that is read and each of its
        engine's steps, at last all answers in order."""
        answers: dict[int, JSON] = {}
        engine: Engine[int] = self.engine(len(window))
        items: dict[int, Item] = {}
        for index, request in enumerate(window):
            try:
                items[index] = self.prepare(*_split_request(request, options, self.task.inputs))
            except InvalidInput as error:
                answers[index] = {"error": {"field": error.field, "message": error.message}}
            if index + 1 < len(window):
                yield []  # a document takes seconds to be read
        for index, item in items.items():
            engine.add(index, item)
        while engine.rows:
            for index, event in engine.step():
                if isinstance(event, Final):
                    answers[index] = {"output": event.output}
                elif isinstance(event, Failed):
                    answers[index] = {"error": describe(event.error)}
            if engine.rows:
                yield []
        yield [answers[index] for index in range(len(window))]


def choose_device(name: str) -> str:
    """`auto` is the first GPU where there is one."""
    if name == "cpu":
        return name
    there = torch.cuda.is_available()
    if name != "auto" and not there:
        raise InvalidInput("device", f"There is no {name!r} here: torch sees no GPU. Known: auto, cpu, cuda.")
    return "cuda" if there else "cpu"


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
    return {"field": None, "message": NEUTRAL}


def _split_request(request: Any, options: Any, inputs: Mapping[str, Any]) -> tuple[Any, Any]:
    wrapped = isinstance(request, dict) and "inputs" in request and "inputs" not in inputs
    if not wrapped:
        return request, options
    unknown = sorted(set(request) - {"inputs", "options"})
    if unknown:
        raise InvalidInput(readable(unknown[0]), "A request holds “inputs” and, if wanted, “options”; nothing else.")
    return request["inputs"], request.get("options", options)


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
