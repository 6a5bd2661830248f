"""translation: a text to another language, sentence by sentence, with what each word was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mlcore import detection, languages, passages
from mlcore.errors import InvalidInput
from mlcore.fields import Choice, Field, Integer, List, Number, Record, Text
from mlcore.media import document
from mlcore.media.fields import Document
from mlcore.pairs import Pairs
from mlcore.placeholders import Protected, is_kept_whole, protect
from mlcore.sentences import LONGEST, SEGMENT, Sentence, origins
from mlcore.subwords import SubwordTokenizer
from mlcore.task import JSON, Example, Item, Product, Strip, Task, register

if TYPE_CHECKING:
    from mlcore.bundle import Bundle

_LONGEST_RUN_S = 4 * 3600.0  # of a document
_MOST_SENTENCES = 100_000


@dataclass(frozen=True)
class Assets:
    """What a bundle brings along."""

    tokenizer: SubwordTokenizer


@dataclass(frozen=True)
class Part:
    """A sentence, and what is wanted of it."""

    sentence: Sentence
    alternatives: int
    in_document: bool


@dataclass(frozen=True)
class Reading:
    """A whole text on its way, or a document of several."""

    passages: tuple[passages.Passage, ...]
    detected: JSON | None
    target: str
    name: str = ""
    source: document.Document | None = None


@register
class Translation(Task):
    """Many to many: an encoder reads a sentence, a decoder writes it in another language."""

    name: ClassVar[str] = "translation"
    title: ClassVar[str] = "Translation"
    menu: ClassVar[str] = "Translate"
    verb: ClassVar[str] = "Translate"
    summary: ClassVar[str] = (
        "Translates between English and German, French or Spanish, and shows what each word came from."
    )
    caution: ClassVar[str] = (
        "It knows everyday sentences best; news and technical texts come out weaker. Check what matters."
    )
    inputs: ClassVar[Mapping[str, Field]] = {
        "text": Text(
            title="Text",
            help="Sentences, mails, notes; line breaks and lists stay.",
            required=False,
            default="",
            allow_blank=True,
        ),
        "document": Document(
            title="Document",
            required=False,
            help=f"In place of the text: {document.ALLOWED}; {document.MAX_BYTES >> 20} MB at most.",
        ),
    }
    options: ClassVar[Mapping[str, Field]] = {
        "source": Choice(
            title="From", required=False, default="auto", choices={"auto": "Detect", **languages.NAMES},
        ),
        "target": Choice(title="To", required=False, default="en", choices=languages.NAMES),
        "beam_size": Integer(
            title="Beams", help="Sentences followed at once; more is slower.", required=False, default=5,
            minimum=1, maximum=10, scope="batch",
        ),
        "num_alternatives": Integer(
            title="Alternatives", help="Other translations of each sentence.", required=False, default=2, minimum=0,
            maximum=4,
        ),
        "glossary": Pairs(
            title="Glossary", help="One term a line: term = translation. A term alone stays as it is.", required=False,
            default=[], max_items=200, max_length=100, remember=True,
        ),
    }  # fmt: skip
    shown_options: ClassVar[Sequence[str]] = ("source", "target")
    output: ClassVar[Mapping[str, Field]] = {
        "translation_text": Text(title="Translation", help="Empty for a document.", allow_blank=True),
        "document": Record(
            title="Translated document",
            required=False,
            fields={
                "name": Text(title="Name"),
                "file": Text(title="File", help="Its id for the server, a path for the command line."),
                "sentences": Integer(title="Sentences", minimum=0),
            },
        ),
        "detected_language": Record(
            title="Detected language",
            required=False,
            fields={
                "code": Choice(title="Language", choices=languages.NAMES),
                "confidence": Number(title="Confidence", minimum=0, maximum=1),
            },
        ),
        "segments": List(
            title="Sentences",
            help="attention: for each target token the share of each source token; rows sum to about 1.",
            of=SEGMENT,
        ),
    }
    examples: ClassVar[Sequence[Example]] = [
        Example(
            "A walk, to German",
            {"text": "We went for a walk in the park. A dog was running after a red ball."},
            {"source": "en", "target": "de"},
        ),
        Example(
            "A question, from French",
            {"text": "Bonjour ! Où est la gare, s'il vous plaît ? Je voudrais prendre le train."},
            {"target": "en"},
        ),
        Example(
            "An appointment, from German",
            {"text": "Ich komme morgen um 10:30 Uhr. Können wir uns vor dem Kino treffen?"},
            {"target": "en"},
        ),
        Example(
            "A list, to Spanish",
            {"text": "Shopping list:\n- three apples\n- a bottle of milk\n- bread"},
            {"source": "en", "target": "es"},
        ),
        Example(
            "With a link, to French",
            {"text": "The children are playing in the garden. Photos: https://example.org/garden"},
            {"source": "en", "target": "fr"},
        ),
    ]
    default_variant: ClassVar[str] = "multi"
    max_batch_size: ClassVar[int] = 32
    max_batch_cost_cpu: ClassVar[int] = 1_024  # tokens, each followed in several beams
    unit: ClassVar[str] = "sentences"
    many: ClassVar[str] = "text"

    def clean(self, inputs: Any, options: Any) -> tuple[JSON, JSON]:
        """Also: the two languages must be a direction that there is."""
        found, chosen = super().clean(inputs, options)
        if found["document"] is None and not found["text"].strip():
            raise InvalidInput("text", "There is nothing to translate yet. Type or paste some text.")
        if found["document"] is not None and found["text"].strip():
            raise InvalidInput("document", "Send a text or a document, not both.")
        if chosen["source"] != "auto":
            languages.check_direction(chosen["source"], chosen["target"], field="target")
        return found, chosen

    def load_assets(self, bundle: Bundle) -> Assets:
        """The vocabulary; the language tables are read along with it."""
        languages.load()
        return Assets(SubwordTokenizer(bundle.read("tokenizer.model")))

    def estimate(self, inputs: JSON) -> int:
        """Characters; of a document a good many."""
        return 20_000 if inputs["document"] else len(inputs["text"])

    def queue_of(self, inputs: JSON) -> str:
        """Documents are slow."""
        return "slow" if inputs["document"] else self.queue

    def run_limit_s(self, inputs: JSON) -> float:
        """A document of 5 MB has some 50,000 sentences, and may have twice as many."""
        return _LONGEST_RUN_S if inputs["document"] else self.max_run_s

    def preprocess(self, inputs: JSON, options: JSON, assets: Assets) -> Item:
        """A text or document to sentences, each a part of its own, with marks for what stays as it is."""
        target = options["target"]
        path = Path(inputs["document"]) if inputs["document"] else None
        source = document.read(path) if path else None
        units = source.units if source else (inputs["text"],)
        if not any(any(map(str.isalpha, unit)) for unit in units):
            raise InvalidInput("text", "There are no words in this, so nothing to translate.")
        detected = detection.of_text(detection.beginning(units)) if options["source"] == "auto" else None
        language = detected["code"] if detected else options["source"]
        if detected:
            languages.check_direction(language, target, field="source")

        def marked(text: str) -> Protected:
            return protect(text, language, target, options["glossary"])

        def done(text: str) -> str | None:
            """What needs no model: addresses, code and numbers alone, as they come out of a sentence."""
            if not is_kept_whole(text):
                return None
            protected = marked(text)
            return protected.restore(protected.text)

        split = tuple(passages.split(unit, language).without(done) for unit in units)
        if (sentences := sum(len(passage.segments) for passage in split)) > _MOST_SENTENCES:
            raise InvalidInput(
                "document", f"The file has {sentences:,} sentences; at most {_MOST_SENTENCES:,} are read. Split it."
            )

        def is_long(text: str) -> bool:
            return assets.tokenizer.is_long(marked(text).text, LONGEST)

        split = tuple(passage.cut(is_long) for passage in split)
        parts: list[Item] = []
        for segment in (segment for passage in split for segment in passage.segments):
            sentence = Sentence.of(segment, language, target, options["glossary"])
            ids = np.array(sentence.encode(assets.tokenizer, target), dtype=np.int64)
            context = Part(sentence, options["num_alternatives"], source is not None)
            parts.append(Item({"source": ids}, options, context, len(ids)))
        reading = Reading(split, detected, target, path.name if path else "", source)
        return Item({}, options, reading, sum(part.cost for part in parts), parts)

    def condense(self, raw: JSON, part: Item) -> JSON:
        """Of a document's sentence only the tokens: fifty thousand maps of attention would fill the memory."""
        return {"hypotheses": raw["hypotheses"][:1]} if part.context.in_document else raw

    def postprocess_part(self, raw: JSON, part: Item, assets: Assets) -> JSON:
        """A sentence's translation, others, and its words with their attention; nothing of a document's."""
        piece: Part = part.context
        if piece.in_document:
            return {}
        source = part.features["source"].tolist()
        return piece.sentence.opened(assets.tokenizer, source, raw, alternatives=piece.alternatives)

    def postprocess(self, raw: list[JSON], item: Item, assets: Assets) -> JSON:
        """The sentences put back into their text, or their document."""
        reading: Reading = item.context
        output: JSON = {"translation_text": "", "detected_language": reading.detected, "document": None, "segments": []}
        parts = item.parts or ()
        if reading.source is None:
            segments = [self.postprocess_part(r, part, assets) for r, part in zip(raw, parts, strict=True)]
            text = reading.passages[0].join([segment["target"] for segment in segments])
            return {**output, "translation_text": text, "segments": segments}
        done = iter(
            [
                part.context.sentence.decode(assets.tokenizer, r["hypotheses"][0][0])
                for r, part in zip(raw, parts, strict=True)
            ]
        )
        texts = [passage.join([next(done) for _ in passage.segments]) for passage in reading.passages]
        name = Path(reading.name)
        product = Product(f"{name.stem}.{reading.target}{name.suffix}", reading.source.write(texts))
        return {**output, "document": {"name": product.name, "file": product, "sentences": len(parts)}}

    def strip(self, inputs: JSON, output: JSON) -> Strip:
        """The translation, each word with the source words that it looked at."""
        text = output["translation_text"]
        return Strip(
            text=text,
            kind="plain",
            cells=origins(text, output["segments"]),
            value="Where from",
            hint="Point at a word, or move with the arrow keys, to see what it came from.",
        )

    def text_of_output(self, output: JSON) -> str:
        """The translation."""
        return str(output["translation_text"])

    def part_of_answer(self, inputs: JSON, output: JSON, part: int | None) -> tuple[str, str]:
        """A sentence and its translation, or the whole text."""
        if part is None:
            return inputs["text"], output["translation_text"]
        if part >= len(output["segments"]):
            raise InvalidInput("part", f"This text has {len(output['segments'])} sentences, counted from 0.")
        segment = output["segments"][part]
        return segment["source"], segment["target"]

    def said_with(self, options: JSON, output: JSON) -> JSON:
        """Both languages; the source as it was detected."""
        detected = (output.get("detected_language") or {}).get("code")
        source = detected if options["source"] == "auto" else options["source"]
        return {"source": source, "target": options["target"]}

    def training_row(self, asked: str, answer: str, said_with: JSON) -> tuple[str, list[str]] | None:
        """English and the other language, as the sets of a pair have them."""
        sides = {said_with.get("source"): " ".join(asked.split()), said_with.get("target"): " ".join(answer.split())}
        other = next((code for code in sides if code and code != "en"), None)
        if "en" not in sides or other is None or not all(sides.values()):
            return None
        return f"translation/en-{other}/train.feedback.tsv.xz", [sides["en"], sides[other]]

    def language_of_output(self, options: JSON) -> str:
        """The language translated to."""
        return str(options["target"])

    def headline_of_output(self, output: JSON) -> str:
        """The first words of the translation, or the document's name."""
        if output["document"]:
            return str(output["document"]["name"])
        return " ".join(output["translation_text"][:400].split())

    def scored(self, output: JSON) -> str:
        """The translation."""
        return str(output["translation_text"])

    def scores(self, expected: Sequence[Any], found: Sequence[Any]) -> dict[str, float]:
        """Lower-cased BLEU of sacrebleu (13a)."""
        from sacrebleu.metrics.bleu import BLEU

        return {"bleu": float(BLEU(lowercase=True).corpus_score(list(found), [list(map(str, expected))]).score)}

    def columns(self, output: JSON) -> JSON:
        """Translation and detected language."""
        code = (output["detected_language"] or {}).get("code", "")
        return {"translation_text": output["translation_text"], "detected_language": code}
