"""image-captioning: a photo to a sentence, other sentences, and where the model looked for each word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mlcore.bundle import Bundle
from mlcore.fields import Field, Integer, List, Number, Record, Text
from mlcore.media.photo_task import PhotoTask
from mlcore.task import JSON, Cell, Item, Strip, register
from mlcore.text import Vocabulary

_LOG_PROBABILITY = Number(title="Score", help="Log-probability a word, length-normalised; nearer to 0 is surer.")


@dataclass(frozen=True)
class Assets:
    """What a bundle brings: its words and the square its encoder sees."""

    vocabulary: Vocabulary
    image_size: int


@register
class ImageCaptioning(PhotoTask):
    """Answers in the shape of Hugging Face's image-to-text, with alternatives and attention."""

    name: ClassVar[str] = "image-captioning"
    aliases: ClassVar[tuple[str, ...]] = ("image-to-text",)
    title: ClassVar[str] = "Caption a photo"
    verb: ClassVar[str] = "Describe the photo"
    summary: ClassVar[str] = "Says what is on a photo, and shows where it looked for each word."
    caution: ClassVar[str] = "It knows everyday scenes best; it cannot read text, count well or name people."
    question: ClassVar[str] = "Was the caption right?"
    options: ClassVar[Mapping[str, Field]] = {
        "beam_size": Integer(
            title="Beams", help="Sentences followed at once; more is slower.", required=False, default=3,
            minimum=1, maximum=10, scope="batch",
        ),
        "num_alternatives": Integer(
            title="Alternatives", help="Other captions to show.", required=False, default=2, minimum=0, maximum=5,
            scope="batch",
        ),
        "max_words": Integer(
            title="Longest caption", help="Words at most.", required=False, default=20, minimum=4, maximum=30,
            scope="batch",
        ),
    }  # fmt: skip
    output: ClassVar[Mapping[str, Field]] = {
        "generated_text": Text(title="Caption"),
        "score": _LOG_PROBABILITY,
        "alternatives": List(
            title="Alternatives", of=Record(fields={"text": Text(title="Caption"), "score": _LOG_PROBABILITY})
        ),
        "words": List(
            title="Words and looks",
            help="attention: rows of the grid laid over the photo, each cell's share; they sum to 1.",
            of=Record(
                fields={
                    "text": Text(title="Word"),
                    "start": Integer(title="Start", minimum=0),
                    "end": Integer(title="End", minimum=0),
                    "attention": List(title="Attention", of=List(of=Number(minimum=0, maximum=1))),
                }
            ),
        ),
    }

    def load_assets(self, bundle: Bundle) -> Assets:
        """Words, and the size of the square."""
        return Assets(Vocabulary.from_bytes(bundle.read("words.txt")), int(bundle.config["image_size"]))

    def postprocess(self, raw: JSON, item: Item, assets: Assets) -> JSON:
        """Tokens to sentences; alternatives that hardly differ are left out."""
        candidates = [(assets.vocabulary.decode(tokens), score) for tokens, score in raw["candidates"]]
        words, score = candidates[0]
        shown: list[list[str]] = [words]
        alternatives: list[JSON] = []
        for other, other_score in candidates[1:]:
            if len(alternatives) < item.options["num_alternatives"] and all(_differ(other, seen) for seen in shown):
                shown.append(other)
                alternatives.append({"text": sentence(other), "score": round(other_score, 4)})
        text = sentence(words)
        places: list[JSON] = []
        start = 0
        for word, attention in zip(words, raw["attention"], strict=True):
            end = start + len(word)
            places.append({"text": text[start:end], "start": start, "end": end, "attention": _grid(attention)})
            start = end + 1
        return {"generated_text": text, "score": round(score, 4), "alternatives": alternatives, "words": places}

    def strip(self, inputs: JSON, output: JSON) -> Strip:
        """The caption, each word tinted by how narrowly it looked."""
        cells = []
        for word in output["words"]:
            peak = max(max(row) for row in word["attention"])
            detail = f"looked {_where(word['attention'])} ({peak * 100:.0f} % on one spot)"
            cells.append(Cell(word["start"], word["end"], min(1.0, peak), detail))
        if cells:  # the full stop rides with the last word
            last = cells[-1]
            cells[-1] = Cell(last.start, len(output["generated_text"]), last.tint, last.detail)
        return Strip(
            text=output["generated_text"],
            kind="confidence",
            cells=cells,
            low="looked everywhere",
            high="looked at one spot",
            value="Peak",
            hint="Point at a word, or move with the arrow keys, to see where the model looked.",
        )

    def headline_of_output(self, output: JSON) -> str:
        """The caption itself."""
        return str(output["generated_text"])

    def columns(self, output: JSON) -> JSON:
        """Caption, score, and the alternatives in one cell."""
        others = " | ".join(other["text"] for other in output["alternatives"])
        return {"generated_text": output["generated_text"], "score": output["score"], "alternatives": others}


def sentence(words: Sequence[str]) -> str:
    """Words as a sentence, with a capital and a full stop."""
    text = " ".join(words) or "Nothing that it can name"
    return f"{text[0].upper()}{text[1:]}."


def _differ(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two captions say different things: at most six tenths of their words are shared."""
    shared = len(set(one) & set(other))
    return shared <= 0.6 * max(len(set(one)), len(set(other)), 1)


def _grid(attention: Sequence[float]) -> list[list[float]]:
    side = round(len(attention) ** 0.5)
    return [[round(value, 3) for value in attention[row * side : (row + 1) * side]] for row in range(side)]


def _where(grid: Any) -> str:
    """The place of the strongest cell in words, for those who cannot see the map."""
    side = len(grid)
    _, row, column = max((value, r, c) for r, values in enumerate(grid) for c, value in enumerate(values))
    vertical = ("at the top", "in the middle", "at the bottom")[min(2, row * 3 // side)]
    horizontal = ("left", "", "right")[min(2, column * 3 // side)]
    return f"{vertical} {horizontal}".strip()
