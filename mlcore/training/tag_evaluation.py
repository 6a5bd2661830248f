"""Scores of a tagger: mean average precision over labels, F1 at a threshold, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score

from mlcore.errors import InvalidInput
from mlcore.metrics import calibration_error, markdown_table, measured_before
from mlcore.models.rnn_tagger import Model
from mlcore.predictor import Predictor
from mlcore.training.photos import Photo, tagged
from mlcore.training.tagging import Labels

MIN_POSITIVES = 10  # labels with fewer photos in the split are left out of mAP: their precision is noise
Array = NDArray[np.floating[Any]]


def average_precisions(scores: Array, target: NDArray[np.bool_], known: NDArray[np.bool_]) -> dict[int, float]:
    """Average precision of each label (place -> value) that enough known photos have; all (N, L)."""
    found = {}
    for label in range(target.shape[1]):
        rows = known[:, label]
        if target[rows, label].sum() >= MIN_POSITIVES:
            found[label] = float(average_precision_score(target[rows, label], scores[rows, label]))
    return found


def mean_average_precision(scores: Array, target: NDArray[np.bool_], known: NDArray[np.bool_]) -> float:
    """Mean over those labels."""
    values = average_precisions(scores, target, known)
    return float(np.mean(list(values.values()))) if values else 0.0


def logits(model: Model, photos: Sequence[Photo], labels: Labels) -> tuple[Array, Array]:
    """Logits (N, L) of head and of decoder, the decoder asked for each photo's own set."""
    heads, decoders = [], []
    device = next(model.parameters()).device
    with torch.inference_mode():
        for start in range(0, len(photos), 32):
            part = photos[start : start + 32]
            pixels = torch.from_numpy(np.stack([photo.pixels(model.config.image_size) for photo in part])).to(device)
            sets = torch.tensor([labels.number(photo) for photo in part], device=device)
            head, (decoder,) = model.judge(pixels, [sets])
            heads.append(head.float().cpu().numpy())
            decoders.append(decoder.float().cpu().numpy())
    return np.concatenate(heads), np.concatenate(decoders)


def by_set(labels: Labels, photos: Sequence[Photo]) -> dict[str, NDArray[np.int64]]:
    """Places of each set's photos."""
    which = np.array([photo.tag_set for photo in photos])
    return {name: np.flatnonzero(which == name) for name in labels.sets}


def best_threshold(probabilities: Array, target: NDArray[np.bool_], known: NDArray[np.bool_]) -> float:
    """The probability from which on naming labels gives the best micro-F1."""
    grid = np.arange(0.1, 0.9, 0.02)
    truth, guess = target[known], probabilities[known]
    return round(float(grid[int(np.argmax([f1_score(truth, guess >= value) for value in grid]))]), 2)


def measure(predictor: Predictor, photos: Sequence[Photo], split: str) -> dict[str, Any]:
    """mAP of head, decoder and mixture, F1 at the threshold and calibration error, for each label set."""
    model = predictor.model
    assert isinstance(model, Model)
    labels = Labels(predictor.assets.sets)
    target, known = labels.targets(photos)
    head, decoder = logits(model, photos, labels)
    config = model.config
    mixed = config.mix * head + (1 - config.mix) * decoder
    stored = predictor.bundle.metrics.get("sets", {})
    found: dict[str, Any] = {"split": split, "mix": config.mix, "sets": {}}
    for number, (name, rows) in enumerate(by_set(labels, photos).items()):
        slope, intercept = config.slopes[number], config.intercepts[number]
        probabilities = 1 / (1 + np.exp(-(slope * mixed[rows] + intercept)))
        truth, asked = target[rows], known[rows]
        threshold = stored[name]["threshold"] if name in stored else best_threshold(probabilities, truth, asked)
        precisions = average_precisions(probabilities, truth, asked)
        guess = (probabilities >= threshold) & asked
        scored = list(precisions)
        found["sets"][name] = {
            "photos": len(rows),
            "labels": len(labels.sets[name]),
            "scored_labels": len(scored),
            "map": {
                "head": round(mean_average_precision(head[rows], truth, asked), 4),
                "decoder": round(mean_average_precision(decoder[rows], truth, asked), 4),
                "mixture": round(float(np.mean(list(precisions.values()))) if precisions else 0.0, 4),
                "frequency": round(float(np.mean([truth[asked[:, i], i].mean() for i in scored] or [0.0])), 4),
            },
            "threshold": threshold,
            "micro_f1": round(float(f1_score(truth[asked], guess[asked])), 4),
            "macro_f1": round(
                float(np.mean([f1_score(truth[asked[:, i], i], guess[asked[:, i], i]) for i in scored] or [0.0])), 4
            ),
            "calibration_error": round(calibration_error(probabilities[asked].astype(np.float64), truth[asked]), 4),
            "labels_ap": {labels.names[i]: round(value, 3) for i, value in precisions.items()},
        }
    return found


def evaluate(predictor: Predictor, data: Path, split: str) -> dict[str, Any]:
    """The card's scores, measured again on a bundle."""
    names = {"dev": "val", "val": "val", "test": "test"}
    if split not in names:
        raise InvalidInput("split", f"There is no split {split!r}. Known: dev, test.")
    metrics = measure(predictor, tagged(data, names[split]), split)
    return metrics | measured_before(predictor.bundle.metrics, split)


def table(metrics: dict[str, Any]) -> str:
    """The card's table."""
    baseline = metrics.get("baseline", {})
    rows = []
    for name, scores in metrics["sets"].items():
        found = scores["map"]
        rows.append(
            [
                f"{name}, {metrics['split']}: {scores['photos']:,} photos, "
                f"{scores['scored_labels']} of {scores['labels']} labels",
                *(f"{found[kind]:.3f}" for kind in ("mixture", "decoder", "head")),
                f"{baseline[name]:.3f}" if name in baseline else "",
                f"{found['frequency']:.3f}",
                f"{scores['micro_f1']:.3f} / {scores['macro_f1']:.3f} at {scores['threshold']}",
                f"{scores['calibration_error']:.3f}",
            ]
        )
    head = ["mAP", "ships (mixture)", "RNN alone", "sigmoid head alone", "linear probe, frozen encoder (baseline)"]
    return markdown_table([*head, "frequency (baseline)", "micro / macro F1", "calibration error"], rows)
