"""Scores of a translator: BLEU and chrF++ by direction and register, repetition, lengths; and a plain baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sklearn.feature_extraction.text import TfidfVectorizer

from mlcore.errors import InvalidInput
from mlcore.metrics import markdown_table, measured_before
from mlcore.models.attention_translator import Model
from mlcore.predictor import Predictor
from mlcore.subwords import SubwordTokenizer
from mlcore.training.parallel_text import dev_pairs, directions, held_out, normalised, read_pairs
from mlcore.training.translation import translate

NEWS_SENTENCES = 1_000  # the first ones: these sets are long, and weak ground anyway
PUBLISHED = {
    "multi30k en-de": "LIUM GRU 39.0 (test 2016)",
    "multi30k en-fr": "LIUM GRU 59.0 (test 2016)",
    "multi30k de-en": "GRU + attention 28.3 (test 2016)",
}
# (name on the card, direction, dev set, test set, beams)
_SETS: list[tuple[str, tuple[str, str], str, str, tuple[int, ...]]] = [
    *(
        ("multi30k", direction, "multi30k_val", "multi30k_2016", (1, 5))
        for direction in (("en", "de"), ("de", "en"), ("en", "fr"), ("fr", "en"))
    ),
    *(("tatoeba", direction, "tatoeba", "tatoeba", (5,)) for direction in directions()),
    ("news", ("en", "de"), "newstest2013", "newstest2014", (5,)),
    ("news", ("en", "fr"), "newstest2013", "newstest2014", (5,)),
    ("news", ("en", "es"), "newstest2012", "newstest2013", (5,)),
]


def bleu(found: Sequence[str], references: Sequence[str]) -> float:
    """Lower-cased BLEU with 13a tokens."""
    return float(BLEU(lowercase=True).corpus_score(list(found), [list(references)]).score)


def international_bleu(found: Sequence[str], references: Sequence[str]) -> float:
    """Lower-cased BLEU with `intl` tokens: unlike 13a it parts a French “l’” from its noun, as published figures do."""
    return float(BLEU(lowercase=True, tokenize="intl").corpus_score(list(found), [list(references)]).score)


def signature() -> str:
    """sacrebleu's own description of `bleu`."""
    metric = BLEU(lowercase=True)
    metric.corpus_score(["a"], [["a"]])
    return str(metric.get_signature())


def quick_scores(model: Model, *, tokenizer: SubwordTokenizer, data: Path, sentences: int) -> dict[str, float]:
    """Greedy BLEU on the first sentences of the dev sets of everyday text, and their mean."""
    found: dict[str, float] = {}
    for name, (source, target), dev, _, _ in _SETS:
        if name != "news":
            rows = dev_pairs(data, source, target, dev)[:sentences]
            answers = translate(model, tokenizer, [row[0] for row in rows], source, target)
            found[f"{name}_{source}_{target}"] = bleu(answers, [row[1] for row in rows])
    return found | {"mean": float(np.mean(list(found.values())))}


def greedy(model: Any, tokenizer: SubwordTokenizer, data: Path, *, limit: int = 0) -> float:
    """Greedy BLEU on Multi30k val, English to German: enough to see what rounding weights costs."""
    rows = dev_pairs(data, "en", "de", "multi30k_val")
    rows = rows[: limit or len(rows)]
    return round(bleu(translate(model, tokenizer, [row[0] for row in rows], "en", "de"), [row[1] for row in rows]), 2)


def measure(predictor: Predictor, data: Path, split: str, *, limit: int = 0) -> dict[str, Any]:
    """All sets of a split through the task itself; `limit` takes only so many sentences of each."""
    found: dict[str, Any] = {"split": split, "signature": signature(), "sets": []}
    answers: list[str] = []
    sources: list[str] = []
    for name, (source, target), dev, test, beams in _SETS:
        rows = dev_pairs(data, source, target, dev if split == "dev" else test, split)
        rows = rows[: limit or (NEWS_SENTENCES if name == "news" else len(rows))]
        if not rows:
            continue
        entry: dict[str, Any] = {"name": name, "direction": f"{source}-{target}", "sentences": len(rows), "beams": {}}
        for beam_size in beams:
            options = {"source": source, "target": target, "beam_size": beam_size, "num_alternatives": 0}
            got = [
                answer["output"]["translation_text"] if "output" in answer else ""
                for answer in predictor.predict(({"text": row[0]} for row in rows), options, batch_size=256)
            ]
            references = [row[1] for row in rows]
            entry["beams"][str(beam_size)] = {
                "bleu": round(bleu(got, references), 2),
                "intl": round(international_bleu(got, references), 2),
                "chrf": round(float(CHRF(word_order=2).corpus_score(got, [references]).score), 2),
            }
        answers += got
        sources += [row[0] for row in rows]
        found["sets"].append(entry)
    if not answers:
        raise InvalidInput("data", f"There are no sentence pairs of the split {split!r} in {data}/translation.")
    tatoeba = [entry["beams"]["5"]["bleu"] for entry in found["sets"] if entry["name"] == "tatoeba"]
    ratios = np.array([len(a.split()) / max(1, len(s.split())) for a, s in zip(answers, sources, strict=True)])
    return found | {
        "tatoeba_mean": round(float(np.mean(tatoeba)), 2) if tatoeba else 0.0,
        "repeats": round(float(np.mean([repeats_itself(answer) for answer in answers])), 5),
        "lengths_in_range": round(float(np.mean((ratios >= 0.5) & (ratios <= 2.0))), 5),
    }


def repeats_itself(text: str) -> bool:
    """Whether a run of three words comes three times."""
    words = text.lower().split()
    runs = Counter(zip(words, words[1:], words[2:], strict=False))
    return max(runs.values(), default=0) >= 3


def baseline(data: Path, *, limit: int = 0) -> dict[str, float]:
    """A translation memory: the translation of the most alike training sentence (TF-IDF of words); BLEU."""
    found, without = {}, held_out(data)
    for name, (source, target), dev, _, _ in _SETS:
        if name == "news":
            continue
        language = target if source == "en" else source
        pairs = islice(read_pairs(data, language, "train", name), limit or None)
        known = [pair for pair in pairs if normalised(pair[0]) not in without]  # without marks, as people write
        sides = known if source == "en" else [(other, english) for english, other in known]
        rows = dev_pairs(data, source, target, dev)[: limit or 500]
        vectors = TfidfVectorizer(token_pattern=r"\w+", sublinear_tf=True)
        memory = vectors.fit_transform([side[0] for side in sides])
        best = np.asarray((vectors.transform([row[0] for row in rows]) @ memory.T).argmax(axis=1)).ravel()
        found[f"{name} {source}-{target}"] = round(bleu([sides[i][1] for i in best], [row[1] for row in rows]), 2)
    return found


def evaluate(predictor: Predictor, data: Path, split: str) -> dict[str, Any]:
    """The card's scores, measured again on a bundle."""
    if split not in ("dev", "test"):
        raise InvalidInput("split", f"There is no split {split!r}. Known: dev, test.")
    metrics = measure(predictor, data, split)
    return metrics | measured_before(predictor.bundle.metrics, split, "rounding")


def table(metrics: dict[str, Any]) -> str:
    """The card's table."""
    rows = []
    for entry in metrics["sets"]:
        label = f"{entry['name']} {entry['direction']}"
        beams = entry["beams"]
        greedy = beams.get("1", {}).get("bleu", "")
        memory = metrics.get("baseline", {}).get(label, "")
        rows.append(
            [
                *(label, f"{entry['sentences']:,}", str(greedy), str(beams["5"]["bleu"]), str(beams["5"]["chrf"])),
                *(str(memory), PUBLISHED.get(label, "")),
            ]
        )
    rows.append(["tatoeba, mean", "", "", str(metrics["tatoeba_mean"]), "", "", ""])
    head = [
        metrics["split"],
        "sentences",
        "BLEU greedy",
        "BLEU beam 5",
        "chrF++",
        "translation memory",
        "published RNN",
    ]
    return markdown_table(head, rows)
