"""Scores of a sentiment model: accuracy and recall, calibration, and whether its word weights mean what they say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mlcore import metrics
from mlcore.batching import collate
from mlcore.predictor import Predictor
from mlcore.training.baselines import tfidf_logistic
from mlcore.training.corpora import NEGATIVE, NEUTRAL, POSITIVE, Example, Source
from mlcore.training.data import bucket_batches

PUBLISHED = {
    "imdb": "LSTM 86.5, LM-pretrained LSTM 92.4 (Dai & Le 2015), ULMFiT 95.4 (test)",
    "sst2": "BiLSTM + GloVe 87.5 (Tai et al. 2015), distilled BiLSTM 90.7 (test)",
    "semeval2017": "BiLSTM + attention .681 (Baziotis et al. 2017, test)",
}
METRICS: dict[str, tuple[str, metrics.Metric]] = {
    "imdb": ("accuracy", metrics.accuracy),
    "sst2": ("accuracy", metrics.accuracy),
    "semeval2017": ("macro-recall", metrics.macro_recall),
}
DELETION_TEXTS = 200


def guesses(logits: NDArray[np.float32], examples: Sequence[Example]) -> NDArray[np.int64]:
    """Classes (N,): of two-class sets the larger of negative / positive."""
    if examples[0].binary:
        return np.where(logits[:, POSITIVE] >= logits[:, NEGATIVE], POSITIVE, NEGATIVE)
    return np.asarray(logits.argmax(axis=1), dtype=np.int64)


def score(logits: NDArray[np.float32], examples: Sequence[Example]) -> float:
    """Accuracy for two-class sets, else macro-averaged recall."""
    metric = metrics.accuracy if examples[0].binary else metrics.macro_recall
    return metric(np.array([example.target for example in examples]), guesses(logits, examples))


def predict_logits(predictor: Predictor, texts: Sequence[str]) -> NDArray[np.float32]:
    """Calibrated logits (N, 3) of whole texts, in order, through the task's own preprocessing."""
    items = [predictor.prepare({"text": text}) for text in texts]
    logits = np.zeros((len(items), 3), dtype=np.float32)
    batches = bucket_batches(
        [item.cost for item in items], tokens_per_batch=16_384, max_rows=256, generator=np.random.default_rng(0)
    )
    temperature = predictor.bundle.config["temperature"]
    with torch.inference_mode():
        for rows in batches:
            batch = collate([items[i].features for i in rows])
            found = predictor.model(batch["tokens"].to(predictor.device), batch["lengths"].to(predictor.device))
            logits[rows] = found.cpu().numpy() / temperature
    return logits


def measure(predictor: Predictor, sets: dict[str, list[Example]], split: str) -> dict[str, Any]:
    """Scores with intervals for each set, calibration error, and the deletion check of the word weights."""
    found: dict[str, Any] = {"split": split, "sets": {}}
    for name, examples in sets.items():
        logits = predict_logits(predictor, [example.text for example in examples])
        targets, guessed = np.array([e.target for e in examples]), guesses(logits, examples)
        label, metric = METRICS[name]
        low, high = metrics.interval(metric, targets, guessed)
        found["sets"][name] = {
            "metric": label,
            "texts": len(examples),
            "score": round(metric(targets, guessed), 4),
            "interval": [round(low, 4), round(high, 4)],
            "calibration_error": round(_calibration(logits, examples, guessed), 4),
        }
    found["deletion_agreement"] = deletion_agreement(predictor, _mixed(sets))
    return found


def _calibration(logits: NDArray[np.float32], examples: Sequence[Example], guessed: NDArray[np.int64]) -> float:
    shown = logits.astype(np.float64)
    if examples[0].binary:
        shown[:, NEUTRAL] = -np.inf
    shown = np.exp(shown - shown.max(axis=1, keepdims=True))
    confidence = shown.max(axis=1) / shown.sum(axis=1)
    return metrics.calibration_error(confidence, guessed == np.array([e.target for e in examples]))


def _mixed(sets: dict[str, list[Example]]) -> list[str]:
    each = -(-DELETION_TEXTS // len(sets))
    return [example.text for examples in sets.values() for example in examples[:each]][:DELETION_TEXTS]


def deletion_agreement(predictor: Predictor, texts: Sequence[str]) -> float:
    """Share of texts where taking the strongest word out moves positive - negative the way its weight says."""
    answers = [answer["output"] for answer in predictor.predict([{"text": text} for text in texts])]
    shorter, signs, kept = [], [], []
    for text, output in zip(texts, answers, strict=True):
        word = max(output["words"], key=lambda word: abs(word["weight"]))
        rest = text[: word["start"]] + text[word["end"] :]
        if rest.strip():
            shorter.append(rest)
            signs.append(np.sign(word["weight"]))
            kept.append(text)
    before, after = (predict_logits(predictor, rows) for rows in (kept, shorter))
    moved = (before - after)[:, POSITIVE] - (before - after)[:, NEGATIVE]
    return round(float((np.sign(moved) == np.array(signs)).mean()), 4)


def baselines(sources: Sequence[Source], sets: dict[str, list[Example]]) -> dict[str, float]:
    """TF-IDF + logistic regression on each set's own training texts (SST: sentences and phrases)."""
    own = {"imdb": ("IMDB",), "sst2": ("SST-5 sentences", "SST-5 phrases"), "semeval2017": ("SemEval-2017",)}
    found = {}
    for name, examples in sets.items():
        rows = [e for source in sources if source.name in own[name] for e in source.examples]
        if examples[0].binary:
            rows = [e for e in rows if e.target != NEUTRAL]
        guessed = tfidf_logistic(
            [e.text for e in rows],
            [e.target for e in rows],
            [e.text for e in examples],
            balanced=not examples[0].binary,
        )
        found[name] = round(METRICS[name][1](np.array([e.target for e in examples]), guessed), 4)
    return found


def table(found: dict[str, Any]) -> str:
    """The card's table."""
    rows = []
    for name, entry in found["sets"].items():
        baseline = found.get("baseline", {}).get(name)
        rows.append(
            [
                f"{name} ({found['split']}, {entry['texts']:,})",
                entry["metric"],
                f"**{entry['score']:.4f}**",
                f"{entry['interval'][0]:.3f} to {entry['interval'][1]:.3f}",
                "" if baseline is None else f"{baseline:.4f}",
                PUBLISHED[name],
                f"{entry['calibration_error']:.3f}",
            ]
        )
    head = ["set", "metric", "this bundle", "95 % interval", "TF-IDF + logistic", "published RNN", "calibration error"]
    return metrics.markdown_table(head, rows)
