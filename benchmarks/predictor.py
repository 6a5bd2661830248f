"""Texts a second of a predictor alone, and what a longer text costs."""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

from benchmarks.texts import make_texts


def _seconds(predictor: Any, texts: list[str], batch_size: int, *, budget_s: float) -> float:
    """Median seconds of one batch of `batch_size` texts, over about `budget_s` of trying."""
    requests = [{"text": text} for text in texts[:batch_size]]
    taken: list[float] = []
    list(predictor.predict(requests, batch_size=batch_size))  # kernels are compiled on first sight of a shape
    end = time.monotonic() + budget_s
    while time.monotonic() < end or len(taken) < 3:
        started = time.perf_counter()
        list(predictor.predict(requests, batch_size=batch_size))
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def measure(task: str = "sentiment-analysis", *, budget_s: float = 3.0) -> dict[str, Any]:
    """Texts a second by batch size and length, load time, and the cost of a text ten times as long."""
    from mlcore.__main__ import find_bundle
    from mlcore.predictor import Predictor, self_test

    started = time.perf_counter()
    predictor = Predictor(find_bundle(task))
    self_test(predictor)
    found: dict[str, Any] = {"load_s": round(time.perf_counter() - started, 2), "texts_per_s": {}}
    for words in (20, 200):
        texts = make_texts(64, words)
        for batch_size in (1, 8, 64):
            seconds = _seconds(predictor, texts, batch_size, budget_s=budget_s)
            found["texts_per_s"][f"{words} words, batch {batch_size}"] = round(batch_size / seconds, 1)
    short, long = (_seconds(predictor, make_texts(1, words), 1, budget_s=budget_s) for words in (200, 2_000))
    found["cost_of_10x_text"] = round(long / short, 2)
    return found


if __name__ == "__main__":
    json.dump(measure(), sys.stdout)
