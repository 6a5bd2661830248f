"""Sentences a second of the translator and where the time goes; a person's wait through the whole stack.

`python -m benchmarks.translation` prints the first as JSON; `through(product)` measures the second.
"""

from __future__ import annotations

import http.client
import json
import random
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from benchmarks.timing import median

TASK = "translation"
OPTIONS = {"source": "en", "target": "de", "num_alternatives": 0}
_SUBJECTS = ("A man", "The old woman", "My brother", "Two children", "A young girl", "Our teacher", "The dog")
_VERBS = ("is walking along", "was looking at", "wants to see", "has forgotten", "is painting", "found", "likes")
_OBJECTS = ("the beach", "a red bicycle", "an old house", "the new book", "the garden", "a small boat", "the window")
_ENDS = ("with a friend in the evening", "because it is very warm today", "before the rain begins again")


def sentence(generator: random.Random) -> str:
    """About 19 words, no two alike for long."""
    parts = [generator.choice(words) for words in (_SUBJECTS, _VERBS, _OBJECTS, _ENDS)]
    return f"{' '.join(parts)}, and {generator.choice(_SUBJECTS).lower()} {generator.choice(_VERBS)} it."


@contextmanager
def _timed(spent: dict[str, float], owner: Any, method: str, name: str) -> Iterator[None]:
    """Add up the time inside a method while the block runs."""
    plain = getattr(owner, method)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        found = plain(*arguments, **options)
        spent[name] = spent.get(name, 0.0) + time.perf_counter() - started
        return found

    setattr(owner, method, wrapped)
    try:
        yield
    finally:
        delattr(owner, method)


def _shares(predictor: Any, items: Any) -> dict[str, float]:
    """Shares of a batch's time: encoder, attention, recurrent layers, output layer, and the search around them."""
    spent: dict[str, float] = {}
    model = predictor.model
    with (
        _timed(spent, model, "encode", "encoder"),
        _timed(spent, model, "step", "step"),
        _timed(spent, model.decoder, "look", "attention"),
        _timed(spent, model, "logits", "output layer"),
    ):
        started = time.perf_counter()
        for _ in range(3):
            predictor.forward(items)
        whole = time.perf_counter() - started
    parts = {name: spent[name] / whole for name in ("encoder", "attention", "output layer")}
    parts["recurrent layers"] = (spent["step"] - spent["attention"] - spent["output layer"]) / whole
    parts["search"] = 1 - sum(parts.values())
    return {name: round(share, 3) for name, share in parts.items()}


def measure(*, budget_s: float = 3.0) -> dict[str, Any]:
    """Sentences a second by batch and beam size, and shares of the time at batch 64, beam 5."""
    from mlcore.__main__ import find_bundle
    from mlcore.predictor import Predictor

    predictor, generator = Predictor(find_bundle(TASK)), random.Random(7)
    rates: dict[str, float] = {}
    shares: dict[str, float] = {}
    for beam_size in (1, 5):
        for size in (1, 8, 64):
            items = [
                predictor.prepare({"text": sentence(generator)}, {**OPTIONS, "beam_size": beam_size}).parts[0]  # type: ignore[index]
                for _ in range(size)
            ]
            # a part's options are its row's: the search reads the beam size there
            seconds = median(lambda batch=items: predictor.forward(batch), budget_s)  # type: ignore[misc]
            rates[f"{'greedy' if beam_size == 1 else f'beam {beam_size}'}, batch {size}"] = round(size / seconds, 1)
            if (beam_size, size) == (5, 64):
                shares = _shares(predictor, items)
    return {"sentences_per_s": rates, "shares": shares}


def through(url: str, *, sentences: int = 20) -> dict[str, Any]:
    """One user: sentences one after another, then a text of 2,000 words; ms."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    generator = random.Random(3)

    def ask(method: str, path: str, body: Any = None) -> Any:
        headers = {"Content-Type": "application/json", "Prefer": "wait=30"}
        connection.request(method, path, json.dumps(body) if body else None, headers)
        return json.loads(connection.getresponse().read())

    taken: list[float] = []
    for number in range(sentences + 3):
        started = time.monotonic()
        job = ask("POST", "/api/v1/jobs", {"task": TASK, "inputs": {"text": sentence(generator)}, "options": OPTIONS})
        if job["status"] != "succeeded":
            raise SystemExit(f"A sentence was not answered: {job['error']}")
        if number >= 3:  # the first ones warm up
            taken.append(time.monotonic() - started)
    text = " ".join(sentence(generator) for _ in range(2_000 // 17))
    started, first = time.monotonic(), 0.0
    connection.request(
        "POST",
        "/api/v1/jobs",
        json.dumps({"task": TASK, "inputs": {"text": text}, "options": OPTIONS}),
        {"Content-Type": "application/json"},
    )
    job = json.loads(connection.getresponse().read())
    while job["status"] in ("queued", "running"):
        time.sleep(0.05)
        job = ask("GET", job["urls"]["get"])
        if not first and (job["partial"] or job["output"]):
            first = time.monotonic() - started
    whole = time.monotonic() - started
    return {
        "sentence": {
            "p50": round(1000 * statistics.median(taken)),
            "p95": round(1000 * statistics.quantiles(taken, n=20, method="inclusive")[18]),
        },
        "long_text": {"words": len(text.split()), "first_ms": round(first * 1000), "whole_ms": round(whole * 1000)},
    }


if __name__ == "__main__":
    json.dump(measure(), sys.stdout)
