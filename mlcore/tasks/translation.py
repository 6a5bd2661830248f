"""translation: a text to another language, sentence by sentence, with what each word was made from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mlcore import languages, passages
from mlcore.errors import InvalidInput
from mlcore.fields import Choice, Document, Field, Integer, List, Number, Pairs, Record, Text
from mlcore.media import document
from mlcore.placeholders import Protected, is_kept_whole, outside_marks, protect
from mlcore.subwords import SubwordTokenizer
from mlcore.task import JSON, Cell, Example, Item, Product, Strip, Task, register

if TYPE_CHECKING:
    from mlcore.bundle import Bundle

_LONGEST = 240  # tokens of a segment; passages.LONGEST characters are fewer but for odd scripts
_LONGEST_RUN_S = 4 * 3600.0  # of a document
_MIXED = 0.3  # share of a text's letters in sentences of another language, from which on it is mixed
_SEEN = 0.25  # attention from which on a source word is named
_NO_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffd]")
_TOKEN = Record(
    fields={
        "text": Text(title="Word"),
        "start": Integer(title="Start", minimum=0),
        "end": Integer(title="End", minimum=0),
    }
)
_SCORE = Number(title="Score", help="Log-probability, length-normalised; nearer to 0 is surer.")


@dataclass(frozen=True)
class Assets:
    """What a bundle brings along."""

    tokenizer: SubwordTokenizer


@dataclass(frozen=True)
class Sentence:
    """A segment on its way: its text on one line, what was protected in it, whether it shouted."""

    before: str  # what stands before it in the text
    text: str
    protected: Protected
    capitals: bool
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
            of=Record(
                fields={
                    "before": Text(title="What stands before it", help="Kept as it is.", allow_blank=True),
                    "source": Text(title="Source"),
                    "target": Text(title="Translation", allow_blank=True),
                    "score": _SCORE,
                    "alternatives": List(
                        title="Alternatives", of=Record(fields={"text": Text(title="Translation"), "score": _SCORE})
                    ),
                    "source_tokens": List(title="Source words", of=_TOKEN),
                    "target_tokens": List(title="Target words", of=_TOKEN),
                    "attention": List(title="Attention", of=List(of=Number(minimum=0, maximum=1.01))),
                }
            ),
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
            _check_direction(chosen["source"], chosen["target"], field="target")
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
        """A document of 5 MB has some 50,000 sentences."""
        return _LONGEST_RUN_S if inputs["document"] else self.max_run_s

    def preprocess(self, inputs: JSON, options: JSON, assets: Assets) -> Item:
        """A text or document to sentences, each a part of its own, with marks for what stays as it is."""
        target = options["target"]
        path = Path(inputs["document"]) if inputs["document"] else None
        source = document.read(path) if path else None
        units = source.units if source else (inputs["text"],)
        if not any(any(map(str.isalpha, unit)) for unit in units):
            raise InvalidInput("text", "There are no words in this, so nothing to translate.")
        detected = _detected(_sample(units)) if options["source"] == "auto" else None
        language = detected["code"] if detected else options["source"]
        if detected:
            _check_direction(language, target, field="source")
        split = tuple(passages.split(unit, language).without(is_kept_whole) for unit in units)
        parts = [
            self._part(segment, language, options, assets, source is not None)
            for passage in split
            for segment in passage.segments
        ]
        reading = Reading(split, detected, target, path.name if path else "", source)
        return Item({}, options, reading, sum(part.cost for part in parts), parts)

    def _part(self, segment: passages.Segment, source: str, options: JSON, assets: Assets, in_document: bool) -> Item:
        text = " ".join(segment.text.split())
        protected = protect(text, source, options["target"], options["glossary"])
        letters = protected.text
        capitals = text.isupper() and len(text.split()) > 1
        if capitals:
            letters = outside_marks(letters, str.lower)
            letters = letters[:1].upper() + letters[1:]
        tokenizer = assets.tokenizer
        ids = [tokenizer.language_id(options["target"]), *tokenizer.encode(letters)[:_LONGEST], tokenizer.eos_id]
        context = Sentence(segment.before, text, protected, capitals, options["num_alternatives"], in_document)
        return Item({"source": np.array(ids, dtype=np.int64)}, options, context, len(ids))

    def postprocess_part(self, raw: JSON, part: Item, assets: Assets) -> JSON:
        """A sentence's translation, others, and its words with their attention; nothing of a document's."""
        sentence: Sentence = part.context
        if sentence.in_document:
            return {}
        tokens, score = raw["hypotheses"][0]
        target = self._best(raw, part, assets)
        others: list[JSON] = []
        for ids, other_score in raw["hypotheses"][1:]:
            text = self._text(ids, sentence, assets)
            if len(others) < sentence.alternatives and text and text not in (target, *(o["text"] for o in others)):
                others.append({"text": text, "score": round(other_score, 4)})
        source_words, source_owner = _words(assets, part.features["source"][1:-1], sentence.protected.original)
        target_words, target_owner = _words(assets, tokens, self._shown(sentence))
        target_words += sentence.protected.missing(assets.tokenizer.decode(tokens))
        return {
            "before": sentence.before,
            "source": sentence.text,
            "target": target,
            "score": round(score, 4),
            "alternatives": others,
            "source_tokens": _placed(source_words, sentence.text),
            "target_tokens": _placed(target_words, target),
            "attention": _by_words(raw["attention"], target_owner, source_owner, len(target_words), len(source_words)),
        }

    @staticmethod
    def _shown(sentence: Sentence) -> Callable[[str], str]:
        """What a marked piece of the translation looks like in the end."""
        if sentence.capitals:
            return lambda text: sentence.protected.restore(outside_marks(_clean(text), str.upper))
        return lambda text: sentence.protected.restore(_clean(text))

    def _text(self, tokens: Sequence[int], sentence: Sentence, assets: Assets) -> str:
        marked = assets.tokenizer.decode(tokens)
        return " ".join([*self._shown(sentence)(marked).split(" "), *sentence.protected.missing(marked)]).strip()

    def postprocess(self, raw: list[JSON], item: Item, assets: Assets) -> JSON:
        """The sentences put back into their text, or their document."""
        reading: Reading = item.context
        output: JSON = {"translation_text": "", "detected_language": reading.detected, "document": None, "segments": []}
        parts = item.parts or ()
        if reading.source is None:
            segments = [self.postprocess_part(r, part, assets) for r, part in zip(raw, parts, strict=True)]
            text = reading.passages[0].join([segment["target"] for segment in segments])
            return {**output, "translation_text": text, "segments": segments}
        done = iter([self._best(r, part, assets) for r, part in zip(raw, parts, strict=True)])
        texts = [passage.join([next(done) for _ in passage.segments]) for passage in reading.passages]
        name = Path(reading.name)
        product = Product(f"{name.stem}.{reading.target}{name.suffix}", reading.source.write(texts))
        return {**output, "document": {"name": product.name, "file": product, "sentences": len(parts)}}

    def _best(self, raw: JSON, part: Item, assets: Assets) -> str:
        return self._text(raw["hypotheses"][0][0], part.context, assets) or part.context.text

    def strip(self, inputs: JSON, output: JSON) -> Strip:
        """The translation, each word with the source words that it looked at."""
        text = output["translation_text"]
        cells: list[Cell] = []
        at = 0
        for part, segment in enumerate(output["segments"]):
            for step, (token, row) in enumerate(zip(segment["target_tokens"], segment["attention"], strict=True)):
                start = text.find(token["text"], at)
                if start < 0:
                    continue
                cells += _kept(text, at, start)
                at = start + len(token["text"])
                cells.append(Cell(start, at, 0.0, _origin(segment, row), part, step))
        cells += _kept(text, at, len(text))
        return Strip(
            text=text,
            kind="plain",
            cells=cells,
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

    def language_of_output(self, options: JSON) -> str:
        """The language translated to."""
        return str(options["target"])

    def headline_of_output(self, output: JSON) -> str:
        """The first words of the translation, or the document's name."""
        if output["document"]:
            return str(output["document"]["name"])
        return " ".join(output["translation_text"][:400].split())

    def columns(self, output: JSON) -> JSON:
        """Translation and detected language."""
        detected = output["detected_language"] or {}
        return {"translation_text": output["translation_text"], "detected_language": detected.get("code", "")}


def _check_direction(source: str, target: str, *, field: str) -> None:
    name = languages.NAMES
    if source == target:
        raise InvalidInput(field, f"The text is in {name[source]} already. Choose another language to translate to.")
    if "en" not in (source, target):
        raise InvalidInput(
            field,
            f"There is no model from {name[source]} to {name[target]}. Translate to English first, then on from there.",
        )


def _sample(units: Sequence[str]) -> str:
    """The beginning of a text or document, enough to tell its language."""
    found, length = [], 0
    for unit in units:
        found.append(unit[: 4_000 - length])
        length += len(unit)
        if length >= 4_000:
            break
    return "\n".join(found)


def _detected(text: str) -> JSON:
    """The language of a text, each sentence looked at; InvalidInput where that is not sure."""
    whole = languages.detect(text)
    known = ", ".join(languages.NAMES.values())
    if whole.foreign:
        raise InvalidInput("source", f"This looks like {whole.foreign}. The model reads {known}.")
    if not whole.code:
        raise InvalidInput("source", "Not sure which language this is: too short or mixed. Choose it under “From”.")
    other: dict[str, int] = {}
    for segment in passages.split(text, whole.code).segments:
        found = languages.detect(segment.text)
        if found.code != whole.code and (found.code or found.foreign) and found.confidence >= 0.9:
            other[found.code or found.foreign] = other.get(found.code or found.foreign, 0) + len(segment.text)
    if sum(other.values()) >= _MIXED * len(text):
        raise InvalidInput("source", "This text mixes languages. Choose under “From” which one is to be translated.")
    return {"code": whole.code, "confidence": round(whole.confidence, 3)}


def _words(assets: Assets, ids: Sequence[int], shown: Callable[[str], str]) -> tuple[list[str], list[int]]:
    """Words of pieces as they are shown, and for each piece the number of its word."""
    groups: list[list[int]] = []
    owners: list[int] = []
    for index, piece in zip(ids, assets.tokenizer.pieces(ids), strict=True):
        if piece.startswith(" ") or not groups:
            groups.append([])
        groups[-1].append(index)
        owners.append(len(groups) - 1)
    words = [shown(assets.tokenizer.decode(group)).strip() for group in groups]
    # a space that is a piece of its own opens the word behind it
    kept = [place for place, word in enumerate(words) if word]
    if not kept:
        return [], []
    number = {place: min(len(kept) - 1, sum(other < place for other in kept)) for place in range(len(words))}
    return [words[place] for place in kept], [number[owner] for owner in owners]


def _origin(segment: JSON, row: Sequence[float]) -> str:
    seen = [token["text"] for token, share in zip(segment["source_tokens"], row, strict=False) if share >= _SEEN]
    return f"from “{' … '.join(seen)}”" if seen else "from no single word"


def _clean(text: str) -> str:
    """Without control characters and halves of bytes: they are no text, and databases refuse them."""
    return " ".join(_NO_TEXT.sub("", text).split())


def _kept(text: str, start: int, end: int) -> list[Cell]:
    """What stands between translated words: list marks, numbers, whatever was left alone."""
    return [
        Cell(start + match.start(), start + match.end(), 0.0, "kept as it is")
        for match in re.finditer(r"\S+", text[start:end])
    ]


def _placed(words: Sequence[str], text: str) -> list[JSON]:
    """Words with their places in a text, in order; one that a normalised form hides has the place before it."""
    found: list[JSON] = []
    at = 0
    for word in words:
        start = text.find(word, at)
        if start < 0:
            found.append({"text": word, "start": at, "end": at})
            continue
        at = start + len(word)
        found.append({"text": word, "start": start, "end": at})
    return found


def _by_words(
    attention: Sequence[Sequence[float]], targets: Sequence[int], sources: Sequence[int], height: int, width: int
) -> list[list[float]]:
    """Attention of pieces (T, S), language symbol and eos among the source, to words: mean over pieces of a target
    word, sum over those of a source word."""
    table = np.zeros((height, width))
    counts = np.zeros(height)
    for row, target in zip(attention, targets, strict=False):
        counts[target] += 1
        for share, source in zip(row[1:], sources, strict=False):
            table[target, source] += share
    table /= np.maximum(counts, 1)[:, None]
    return [[round(float(value), 2) for value in row] for row in table]
