"""Scores of a captioner on photos with human captions, and what else a reader would mind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mlcore.errors import InvalidInput
from mlcore.metrics import markdown_table, measured_before
from mlcore.models.attention_captioner import Model
from mlcore.predictor import Predictor
from mlcore.training import caption_scores
from mlcore.training.captioning import search
from mlcore.training.photos import Photo, captioned

BEAMS = {"greedy": 1, "beam 3": 3, "beam 5": 5}
PUBLISHED = "soft attention 19.5, hard attention 21.3 BLEU-4 (Xu et al. 2015, test)"
# a caption that ends in one of these was cut off
_OPEN_ENDS = frozenset(("a an the of in on at with and or to from by for is are while as his her their its").split())  # noqa: SIM905


def measure(predictor: Predictor, photos: Sequence[Photo], split: str) -> dict[str, Any]:
    """BLEU, METEOR and CIDEr by beam size with the references' own words; diversity, repeats and open ends."""
    model = predictor.model
    assert isinstance(model, Model)
    vocabulary = predictor.assets.vocabulary
    pixels = [torch.from_numpy(photo.pixels(model.config.image_size).copy()) for photo in photos]
    references = [photo.captions for photo in photos]
    found: dict[str, Any] = {"split": split, "photos": len(photos), "beams": {}}
    with torch.inference_mode():
        parts = [torch.stack(pixels[i : i + 32]).to(predictor.device) for i in range(0, len(pixels), 32)]
        features = torch.cat([model.encoder(part) for part in parts])
    for name, beam_size in BEAMS.items():
        words = [vocabulary.decode(h.tokens) for h in search(model.decoder, features, beam_size=beam_size)]
        scores = caption_scores.score(words, references)
        scores["meteor"] = caption_scores.meteor(words, references)
        found["beams"][name] = {key: round(value, 4) for key, value in scores.items()}
    answers = _answers(predictor, pixels)
    captions = [candidates[0] for candidates in answers]
    found |= {
        "diversity": round(caption_scores.self_bleu(answers), 4),
        "repeats": sum(caption_scores.repeats_itself(words) for words in captions),
        "open_ends": sum(not words or words[-1] in _OPEN_ENDS for words in captions),
        "captions": [" ".join(words) for words in captions],
    }
    return found


def _answers(predictor: Predictor, pixels: Sequence[torch.Tensor]) -> list[list[list[str]]]:
    """The captions that people get: the answer and its alternatives, as words."""
    vocabulary = predictor.assets.vocabulary
    raws: list[Any] = []
    for start in range(0, len(pixels), 32):
        images = torch.stack(list(pixels[start : start + 32])).to(predictor.device)
        raws += predictor.model.predict({"images": images})  # type: ignore[operator]
    return [[vocabulary.decode(tokens) for tokens, _ in raw["candidates"]] for raw in raws]


def nearest_captions(
    features: NDArray[np.float16], dev: NDArray[np.float16], captions: Sequence[Sequence[Sequence[str]]]
) -> list[Sequence[str]]:
    """The plain baseline (Devlin et al. 2015, https://arxiv.org/abs/1505.04467).

    For each dev photo a caption of the most alike training photo, by the cosine of mean features (N, 2, P, F).
    """
    mean, dev_mean = (table[:, 0].mean(axis=1, dtype=np.float32) for table in (features, dev))
    mean, dev_mean = (table / np.linalg.norm(table, axis=1, keepdims=True) for table in (mean, dev_mean))
    return [captions[int(place)][0] for place in (dev_mean @ mean.T).argmax(axis=1)]


def evaluate(predictor: Predictor, data: Path, split: str) -> dict[str, Any]:
    """The card's scores, measured again on a bundle."""
    names = {"dev": "val", "val": "val", "test": "test"}
    if split not in names:
        raise InvalidInput("split", f"There is no split {split!r}. Known: dev, test.")
    metrics = measure(predictor, captioned(data, names[split]), split)
    return metrics | measured_before(predictor.bundle.metrics, split)


def table(metrics: dict[str, Any]) -> str:
    """The card's table."""
    columns = ("bleu1", "bleu2", "bleu3", "bleu4", "meteor", "cider")
    rows = [[name, *(f"{scores[c]:.3f}" for c in columns)] for name, scores in metrics["beams"].items()]
    if baseline := metrics.get("baseline"):
        rows.append(["nearest photo's caption (baseline)", *(f"{baseline[c]:.3f}" for c in columns)])
    head = f"{metrics['split']}, {metrics['photos']:,} photos"
    return markdown_table([head, "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR (nltk)", "CIDEr"], rows)
