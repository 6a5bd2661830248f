"""Bits a character of held-out texts, beside a compressor and an n-gram model."""

from __future__ import annotations

import lzma
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlcore.errors import InvalidInput
from mlcore.metrics import markdown_table
from mlcore.models.lstm_language_model import Model
from mlcore.predictor import Predictor
from mlcore.subwords import TextTokenizer
from mlcore.tasks.text_generation import VOICES
from mlcore.training.voices import bits_per_character, nats_of_texts, texts

ORDER = 5  # characters that the n-gram model looks back at


def sample(text: str, characters: int, *, places: int = 8) -> str:
    """Pieces from all over a text, so many characters together; all of a shorter one."""
    if len(text) <= characters:
        return text
    size = characters // places
    starts = [place * (len(text) - size) // (places - 1) for place in range(places)]
    return "".join(text[start : start + size] for start in starts)


def quick_scores(model: Model, *, tokenizer: TextTokenizer, held: Sequence[tuple[int, str, float]]) -> dict[str, float]:
    """Bits a character of samples (voice, text, weight) of the held-out texts; `score` grows as they fall."""
    bits = [bits_per_character(model, tokenizer, text, voice, rows=8) for voice, text, _ in held]
    mean = float(np.average(bits, weights=[weight for *_, weight in held]))
    return {"bits": mean, "score": -mean}


def measure(predictor: Predictor, data: Path, *, limit: int = 0) -> dict[str, Any]:
    """Each voice's held-out text as one stream, and the mean weighted by characters."""
    model = predictor.model
    assert isinstance(model, Model)
    tokenizer, voices = predictor.assets.tokenizer, predictor.assets.voices
    found: dict[str, Any] = {"split": "valid", "voices": {}}
    total, uncached, count = 0.0, 0.0, 0
    held = [texts(data, voice, "valid", limit=limit)[0] for voice in voices]
    for voice, text, spent in zip(voices, held, nats_of_texts(model, tokenizer, list(enumerate(held))), strict=True):
        total, uncached, count = total + spent.nats, uncached + spent.uncached, count + len(text)
        found["voices"][voice] = {
            "characters": len(text),
            "bits": round(spent.nats / len(text) / float(np.log(2)), 4),
            "nats": round(spent.nats / len(text), 4),
            "xz": round(8 * len(lzma.compress(text.encode(), preset=9)) / len(text), 3),
        }
    found["bits"] = round(total / count / float(np.log(2)), 4)
    if model.config.cache:
        found["bits_uncached"] = round(uncached / count / float(np.log(2)), 4)
    found["characters"] = count
    return found


def ngram_bits(train: str, held: str, order: int = ORDER) -> float:
    """Bits a character of an interpolated character model with Witten-Bell smoothing (Witten & Bell 1991)."""
    counts: list[dict[str, Counter[str]]] = [defaultdict(Counter) for _ in range(order + 1)]
    for back in range(order + 1):
        table = counts[back]
        for place in range(back, len(train)):
            table[train[place - back : place]][train[place]] += 1
    alphabet = len(counts[0][""]) + 1
    total = 0.0
    for place, character in enumerate(held):
        probability = 1 / alphabet
        for back in range(min(order, place) + 1):
            found = counts[back].get(held[place - back : place])
            if found is None:
                break
            seen, kinds = found.total(), len(found)
            probability = (found[character] + kinds * probability) / (seen + kinds)
        total -= float(np.log2(probability))
    return total / max(1, len(held))


def evaluate(predictor: Predictor, data: Path, split: str) -> dict[str, Any]:
    """The card's scores, measured again on a bundle; those of n-grams and the yardstick are the bundle's own."""
    if split not in ("dev", "valid"):
        raise InvalidInput("split", f"There is no split {split!r}. Known: dev.")
    kept = predictor.bundle.metrics
    return measure(predictor, data) | {name: kept[name] for name in ("ngram", "shakespeare") if name in kept}


def evaluate_text(predictor: Predictor, text: str, options: Any) -> dict[str, Any]:
    """Bits a character of any text, in the voice that the options name, or the only one that the bundle has."""
    voices = list(predictor.assets.voices)
    chosen = predictor.task.clean({"prompt": ""}, options)[1]["voice"]
    if chosen not in voices and len(voices) > 1:
        raise InvalidInput("voice", f"This model has no such voice. It has: {', '.join(voices)}.")
    voice = voices.index(chosen) if chosen in voices else 0
    model = predictor.model
    assert isinstance(model, Model)
    bits = bits_per_character(model, predictor.assets.tokenizer, text, voice)
    return {"bits_per_character": round(bits, 4), "characters": len(text)}


def table(metrics: dict[str, Any]) -> str:
    """The card's table."""
    ngram = metrics.get("ngram", {})
    rows = [
        [
            VOICES.get(voice, voice),
            f"{entry['characters']:,}",
            f"{entry['bits']:.3f}",
            f"{entry['xz']:.2f}",
            str(ngram.get(voice, "")),
        ]
        for voice, entry in metrics["voices"].items()
    ]
    rows.append(["all, by characters", f"{metrics['characters']:,}", f"{metrics['bits']:.3f}", "", ""])
    if "bits_uncached" in metrics:
        rows.append(["the same without the cache", "", f"{metrics['bits_uncached']:.3f}", "", ""])
    return markdown_table(["held-out text", "characters", "bits/char", "xz -9", f"order-{ORDER} n-gram"], rows)
