"""sentiment-analysis: how a text feels, and which words made it so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mlcore.errors import InvalidInput
from mlcore.fields import Choice, Field, Integer, List, Number, Record, Text
from mlcore.task import JSON, Cell, Example, Item, Strip, Task, register
from mlcore.text import Word, WordTokenizer, is_clitic, split_words

if TYPE_CHECKING:
    from mlcore.bundle import Bundle

_MOST_TOKENS = 12_000  # twice those of the longest English text; the gradient of each takes 55 kB
_LABELS = {"negative": "Negative", "neutral": "Neutral", "positive": "Positive"}
_LABEL = Choice(title="Label", choices=_LABELS)
_SCORE = Number(title="Probability", minimum=0, maximum=1)


@dataclass(frozen=True)
class Assets:
    """What a bundle brings along."""

    tokenizer: WordTokenizer
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """A text as it was read: its words, and for each token between the two eos the word it is of."""

    text: str
    words: Sequence[Word]
    owners: Sequence[int]


@register
class SentimentAnalysis(Task):
    """Many to one: a text is read to its end, then judged negative, neutral or positive."""

    name: ClassVar[str] = "sentiment-analysis"
    aliases: ClassVar[tuple[str, ...]] = ("text-classification",)
    title: ClassVar[str] = "Sentiment"
    menu: ClassVar[str] = "Sentiment"
    verb: ClassVar[str] = "Read the sentiment"
    summary: ClassVar[str] = "Tells whether a text feels positive, neutral or negative, and how hard each word pushed."
    caution: ClassVar[str] = (
        "It reads English reviews, short sentences and posts. It often misses irony, and it does not know who is right."
    )
    inputs: ClassVar[Mapping[str, Field]] = {
        "text": Text(title="Text", help="A review, a sentence or a post, in English.", max_length=20_000),
    }
    output: ClassVar[Mapping[str, Field]] = {
        "label": _LABEL,
        "score": _SCORE,
        "labels": List(
            title="All labels, the likeliest first",
            of=Record(fields={"label": _LABEL, "score": _SCORE}),
            min_items=3,
            max_items=3,
        ),
        "words": List(
            title="Words with their weights",
            help="weight > 0 pushed towards positive, < 0 towards negative; start and end are character offsets.",
            of=Record(
                fields={
                    "text": Text(title="Word"),
                    "start": Integer(title="Start", minimum=0),
                    "end": Integer(title="End", minimum=0),
                    "weight": Number(title="Weight"),
                }
            ),
        ),
    }
    examples: ClassVar[Sequence[Example]] = [
        Example(
            "A warm review",
            {"text": "I went in tired and came out grinning. The cast is wonderful and the ending earned its tears."},
        ),
        Example(
            "A contrast",
            {"text": "The photography is gorgeous, but the story is so dull that I looked at my watch five times."},
        ),
        Example("A negation", {"text": "Not bad at all: I would not hesitate to buy this kettle again."}),
        Example("A plain fact", {"text": "The shop opens at nine and closes at six from Monday to Friday."}),
        Example("A post", {"text": "@user third delay today, thanks for nothing :( #trains"}),
    ]
    default_variant: ClassVar[str] = "en"
    many: ClassVar[str] = "text"

    def load_assets(self, bundle: Bundle) -> Assets:
        """Tokenizer and labels."""
        return Assets(WordTokenizer(bundle.read("tokenizer.model")), tuple(bundle.config["labels"]))

    def part_of_answer(self, inputs: JSON, output: JSON, part: int | None) -> tuple[str, str]:
        """The whole text and the label alone."""
        super().part_of_answer(inputs, output, part)
        return inputs["text"], output["label"]

    def clean_better(self, better: str) -> str:
        """One of the labels."""
        label = better.strip(" .,!").lower()
        if label not in _LABELS:
            raise InvalidInput("theirs", f"Say one of these: {', '.join(_LABELS)}.")
        return label

    def training_row(self, asked: str, answer: str, said_with: JSON) -> tuple[str, list[str]] | None:
        """Label and text, as sentiment's sets have them."""
        text = " ".join(asked.split())
        return ("sentiment/feedback.train.tsv.xz", [answer, text]) if text and answer in _LABELS else None

    def preprocess(self, inputs: JSON, options: JSON, assets: Assets) -> Item:
        """The whole text as ids between two eos; nothing is cut, but what has too many is refused."""
        words = split_words(inputs["text"])
        if not words:
            raise InvalidInput("text", "There is nothing to read yet. Type or paste some text.")
        ids, owners = assets.tokenizer.encode(words)
        if len(ids) > _MOST_TOKENS:
            problem = (
                f"This text has {len(ids):,} pieces of words and signs; at most {_MOST_TOKENS:,} are read. Shorten it."
            )
            raise InvalidInput("text", problem)
        eos = assets.tokenizer.eos_id
        tokens = np.array([eos, *ids, eos], dtype=np.int64)
        return Item({"tokens": tokens}, options, Reading(inputs["text"], words, owners), len(tokens))

    def postprocess(self, raw: JSON, item: Item, assets: Assets) -> JSON:
        """Probabilities and token weights to labels and words; clitics are shown with their word."""
        reading: Reading = item.context
        ranked = sorted(zip(raw["probabilities"], assets.labels, strict=True), reverse=True)
        labels = [{"label": label, "score": round(score, 6)} for score, label in ranked]
        weights = [0.0] * len(reading.words)
        for owner, weight in zip(reading.owners, raw["weights"][1:-1], strict=True):
            weights[owner] += weight
        words: list[JSON] = []
        for word, weight in zip(reading.words, weights, strict=True):
            if words and is_clitic(word.text) and words[-1]["end"] == word.start:
                words[-1]["end"] = word.end
                words[-1]["weight"] += weight
            else:
                words.append({"start": word.start, "end": word.end, "weight": weight})
        return {
            **labels[0],
            "labels": labels,
            "words": [
                {
                    "text": reading.text[word["start"] : word["end"]],
                    "start": word["start"],
                    "end": word["end"],
                    "weight": round(word["weight"], 5),
                }
                for word in words
            ],
        }

    def strip(self, inputs: JSON, output: JSON) -> Strip:
        """The text itself, each word tinted by how hard it pushed."""
        strongest = max(1.0, *(abs(word["weight"]) for word in output["words"]))
        return Strip(
            text=inputs["text"],
            kind="for-against",
            cells=[
                Cell(word["start"], word["end"], word["weight"] / strongest, _push(word["weight"]))
                for word in output["words"]
            ],
            low="towards negative",
            high="towards positive",
            hint="Point at a word, or move with the arrow keys, to see how hard it pushed.",
        )

    def headline_of_output(self, output: JSON) -> str:
        """For example "Positive, 93 %"."""
        return f"{_LABELS[output['label']]}, {output['score'] * 100:.0f} %"

    def scored(self, output: JSON) -> str:
        """The label."""
        return str(output["label"])

    def scores(self, expected: Sequence[Any], found: Sequence[Any]) -> dict[str, float]:
        """Accuracy, and the mean over the labels of the share found (macro-recall)."""
        pairs = [(str(wish), label) for wish, label in zip(expected, found, strict=True)]
        recalls = []
        for label in sorted({wish for wish, _ in pairs}):
            known = [guess == label for wish, guess in pairs if wish == label]
            recalls.append(sum(known) / len(known))
        right = sum(wish == guess for wish, guess in pairs)
        return {"accuracy": right / max(1, len(pairs)), "macro_recall": sum(recalls) / max(1, len(recalls))}

    def columns(self, output: JSON) -> JSON:
        """Label, score and one column for each class."""
        scores = {entry["label"]: entry["score"] for entry in output["labels"]}
        return {"label": output["label"], "score": output["score"], **{name: scores[name] for name in _LABELS}}


def _push(weight: Any) -> str:
    if abs(weight) < 0.05:
        return f"hardly pushed ({weight:+.2f})"
    strength = "strongly " if abs(weight) >= 0.5 else ""
    return f"pushed {strength}towards {'positive' if weight > 0 else 'negative'} ({weight:+.2f})"
