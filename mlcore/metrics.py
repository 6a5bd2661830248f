"""Scores, through scikit-learn where it has them, each with a 95 % interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, recall_score

Labels = NDArray[np.int64]
Metric = Callable[[Labels, Labels], float]


def accuracy(targets: Labels, guesses: Labels) -> float:
    """Share of rows (N,) that are right."""
    return float(accuracy_score(targets, guesses))


def macro_recall(targets: Labels, guesses: Labels) -> float:
    """Mean over the classes of the share found (SemEval-2017 task 4's AvgRec)."""
    return float(recall_score(targets, guesses, average="macro", zero_division=0.0))


def interval(metric: Metric, targets: Labels, guesses: Labels, *, draws: int = 1000) -> tuple[float, float]:
    """95 % bootstrap interval: the metric over rows drawn with replacement, 2.5th and 97.5th percentile."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        rows = generator.integers(len(targets), size=len(targets))
        found.append(metric(targets[rows], guesses[rows]))
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_], *, bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017): |confidence - accuracy| a bin, weighted by its rows."""
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.digitize(confidence, edges) - 1, 0, bins - 1)
    gaps = [
        (place == i).mean() * abs(confidence[place == i].mean() - right[place == i].mean())
        for i in range(bins)
        if (place == i).any()
    ]
    return float(sum(gaps))


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    """A table as Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def measured_before(metrics: Mapping[str, Any], split: str, *names: str) -> dict[str, Any]:
    """Of a bundle's own metrics what stands beside new ones: its `baseline`, and what else is named.

    All of it was measured on dev, so it stands beside no other split's.
    """
    return {name: metrics.get(name, {}) if split in ("dev", "val") else {} for name in ("baseline", *names)}
