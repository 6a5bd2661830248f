"""Texts of a wanted length, made from the repository's own example sentences."""

from __future__ import annotations

import json
import random
from pathlib import Path

_EXAMPLES = Path(__file__).resolve().parent.parent / "mlcore" / "examples" / "sentiment-analysis.jsonl"


def make_texts(count: int, words: int, *, seed: int = 1) -> list[str]:
    """`count` texts of exactly `words` words, no two alike."""
    generator = random.Random(seed)
    sentences = [json.loads(line)["text"].split() for line in _EXAMPLES.read_text(encoding="utf-8").splitlines()]
    texts = []
    for _ in range(count):
        text: list[str] = []
        while len(text) < words:
            text += generator.choice(sentences)
        texts.append(" ".join(text[:words]))
    return texts
