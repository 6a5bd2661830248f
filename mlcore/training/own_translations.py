"""A translator's own translations of captions, to learn from: they come in the register that its pairs are few in.

Into English the pair teaches what real English follows a made source (back-translation, Sennrich et al. 2016,
https://arxiv.org/abs/1511.06709), out of it to say at once what a search found (self-training, He et al. 2020,
https://arxiv.org/abs/1909.13788).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from mlcore.models.attention_translator import Model
from mlcore.subwords import SubwordTokenizer
from mlcore.training.data import read_table
from mlcore.training.parallel_text import Pair, normalised, read_pairs
from mlcore.training.process import has_fast_bfloat16
from mlcore.training.translation import scored_translations

logger = logging.getLogger(__name__)

LANGUAGES = ("de", "fr")  # those of Multi30k
SHORTEST, LONGEST = 5, 30  # words of a caption
RATIO = 2.0  # of lengths that a pair may have
SUREST = 0.5  # share of the translations into a language that are kept


def captions(data: Path, *, number: int, seed: int, without: frozenset[str]) -> list[str]:
    """So many English captions of COCO and Flickr30k, drawn at random, each photo's at most two.

    None of a photo of which one caption is `without` (normalised): what others wrote of a photo whose translations
    are held out would tell of these. None of Multi30k's own sentences either: people translated these.
    """
    known = {normalised(row[0]) for code in LANGUAGES for row in read_pairs(data, code, "train", "multi30k")}
    generator = np.random.default_rng(seed)
    found: list[str] = []
    for name in ("coco", "flickr30k"):
        path = data / "captions_extra" / f"{name}_text_only.tsv.gz"
        for _, rows in groupby(read_table(path) if path.exists() else [], key=lambda row: row[0]):
            texts = [row[2].strip() for row in rows]
            if any(normalised(text) in without for text in texts):
                continue
            fit = [text for text in texts if _fits(text) and normalised(text) not in known]
            found += [fit[i] for i in generator.permutation(len(fit))[:2]]
    return [found[i] for i in generator.permutation(len(found))[:number]]


def _fits(text: str) -> bool:
    """A sentence as Multi30k has them, without figures (which marks would stand for)."""
    return text[:1].isupper() and SHORTEST <= len(text.split()) <= LONGEST and not any(c.isdigit() for c in text)


def own_pairs(model: Model, tokenizer: SubwordTokenizer, texts: Sequence[str], *, beam_size: int) -> Iterator[Pair]:
    """English texts, half of them in each language, with what the model makes of them.

    Of each language those it is surest of, by log-probability a token; and none of odd length.
    """
    model.eval()
    share = -(-len(texts) // len(LANGUAGES))
    for number, language in enumerate(LANGUAGES):
        part = texts[number * share : (number + 1) * share]
        answers: list[tuple[str, float]] = []
        for start in range(0, len(part), 2_048):
            asked = part[start : start + 2_048]
            with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bfloat16()):
                answers += scored_translations(model, tokenizer, asked, "en", language, beam_size=beam_size)
            logger.info("%d of %d captions in %s", len(answers), len(part), language)
        least = float(np.quantile([score for _, score in answers], 1 - SUREST)) if answers else 0.0
        for english, (other, score) in zip(part, answers, strict=True):
            counts = len(english.split()), len(other.split())
            if score >= least and max(counts) <= RATIO * min(counts):
                yield Pair(language, english, other)
