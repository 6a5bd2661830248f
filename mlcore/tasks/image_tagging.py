"""image-tagging: a photo to the things on it, each with its probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from mlcore.bundle import Bundle
from mlcore.fields import Choice, Field, Integer, List, Number, Record, Text
from mlcore.media.photo_task import PhotoTask
from mlcore.task import JSON, Cell, Item, Strip, register

NO_TAG = "no tag is likely"
HEADLINE = 120  # characters


@dataclass(frozen=True)
class Assets:
    """What a bundle brings: names of labels by set, the sets in the model's order, and its encoder's square."""

    sets: Mapping[str, Sequence[str]]
    image_size: int

    @cached_property
    def names(self) -> list[str]:
        """All labels in the model's order."""
        return list(dict.fromkeys(name for names in self.sets.values() for name in names))


@register
class ImageTagging(PhotoTask):
    """Answers in the shape of Hugging Face's image-classification, for many labels at once."""

    name: ClassVar[str] = "image-tagging"
    title: ClassVar[str] = "Tag a photo"
    verb: ClassVar[str] = "Tag the photo"
    summary: ClassVar[str] = "Names the things on a photo, each with its probability."
    caution: ClassVar[str] = "It knows 202 everyday things; what it was never taught it cannot name."
    question: ClassVar[str] = "Were the tags right?"
    options: ClassVar[Mapping[str, Field]] = {
        "top_k": Integer(
            title="Tags", help="The likeliest so many; more than there are labels means all.", required=False,
            default=10, minimum=1, maximum=1_000,
        ),
        "threshold": Number(
            title="Least probability", help="Leave out what is less likely. Empty leaves out nothing.",
            required=False, minimum=0, maximum=1, step=0.05,
        ),
        "set": Choice(
            title="Label set", required=False, default="all",
            help="COCO: 80 objects marked by people. Flickr8k: 138 things, places and doings that captions name.",
            choices={"all": "Both", "coco": "COCO objects", "flickr8k": "Flickr8k words"},
        ),
    }  # fmt: skip
    output: ClassVar[Mapping[str, Field]] = {
        "tags": List(
            title="Tags",
            help="The likeliest first; probabilities are calibrated, label by label: they do not sum to 1.",
            of=Record(fields={"label": Text(title="Label"), "score": Number(title="Score", minimum=0, maximum=1)}),
        ),
    }

    def load_assets(self, bundle: Bundle) -> Assets:
        """Labels, and the size of the square."""
        return Assets(bundle.read_json("labels.json")["sets"], int(bundle.config["image_size"]))

    def postprocess(self, raw: JSON, item: Item, assets: Assets) -> JSON:
        """Probabilities of the chosen set, sorted and cut; a label that both sets know is COCO's, marked by people."""
        chosen = item.options["set"]
        scores: dict[str, float] = {}
        for (name, labels), probabilities in zip(assets.sets.items(), raw["probabilities"], strict=True):
            if chosen in ("all", name):
                known = dict(zip(assets.names, probabilities, strict=True))
                scores = {label: known[label] for label in labels} | scores
        least = item.options["threshold"]
        ranked = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
        kept = [
            {"label": label, "score": round(score, 4)} for label, score in ranked if least is None or score >= least
        ]
        return {"tags": kept[: item.options["top_k"]]}

    def strip(self, inputs: JSON, output: JSON) -> Strip:
        """The labels in a row, each tinted by its probability."""
        cells: list[Cell] = []
        text = ""
        for tag in output["tags"]:
            start = len(text)
            text += f"{tag['label']}, "
            cells.append(Cell(start, len(text) - 1, float(tag["score"]), f"{tag['score'] * 100:.0f} %"))
        if not cells:
            return Strip(text="", kind="confidence", cells=[], low="unlikely", high="certain")
        text = text[:-2]
        last = cells[-1]
        cells[-1] = Cell(last.start, len(text), last.tint, last.detail)
        return Strip(
            text=text,
            kind="confidence",
            cells=cells,
            low="unlikely",
            high="certain",
            value="Probability",
            hint="Point at a tag to read its probability.",
        )

    def headline_of_output(self, output: JSON) -> str:
        """The likelier tags."""
        likely = [tag["label"] for tag in output["tags"] if tag["score"] >= 0.5]
        while len(", ".join(likely)) > HEADLINE:
            likely.pop()  # half a tag would be listed as one
        return ", ".join(likely) or NO_TAG

    def columns(self, output: JSON) -> JSON:
        """Tags and probabilities in one cell each."""
        return {
            "labels": " | ".join(tag["label"] for tag in output["tags"]),
            "scores": " | ".join(f"{tag['score']:.4f}" for tag in output["tags"]),
        }
