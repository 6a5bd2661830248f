"""text-generation: a prompt is written on, token by token, in one of several voices."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mlcore.errors import InvalidInput
from mlcore.fields import Choice, Field, Integer, List, Number, Record, Text
from mlcore.subwords import TextTokenizer
from mlcore.task import JSON, Cell, Example, Item, Strip, Task, register
from mlcore.writing import StopString, Writing

if TYPE_CHECKING:
    from mlcore.bundle import Bundle

VOICES: Mapping[str, str] = {
    **{"sherlock": "Sherlock Holmes", "mystery": "Mystery", "scifi": "Science fiction", "horror": "Horror"},
    **{"humour": "Humour", "children": "Children's books", "austen": "Jane Austen", "stories": "Short stories"},
    **{"poetry": "Poetry", "novels": "Novels around 1900", "reviews": "Film reviews"},
}
READ = 8_000  # characters of a prompt that are read, its last ones
READ_TOKENS = 3_000  # and tokens: where characters are read byte by byte, there are many more of these
_TOKEN = Record(
    fields={
        "text": Text(title="Token", allow_blank=True),
        "logprob": Number(title="Log-probability", maximum=0.0001),
        "top": List(
            title="The likeliest, up to five, before the options narrow them",
            of=Record(
                fields={
                    "text": Text(title="Token", allow_blank=True),
                    "prob": Number(title="Probability", minimum=0, maximum=1.0001),
                }
            ),
        ),
    }
)
_REASON = Choice(
    title="Why it ended",
    choices={"length": "as long as asked", "stop": "a stop string", "eos": "the text's end", "cancelled": "stopped"},
)


@dataclass(frozen=True)
class Assets:
    """What a bundle brings along."""

    tokenizer: TextTokenizer
    voices: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A request while it is answered."""

    continuations: list[Writing]
    seed: int
    notice: str


@register
class TextGeneration(Task):
    """One to many: what comes next, drawn again and again."""

    name: ClassVar[str] = "text-generation"
    title: ClassVar[str] = "Write on"
    menu: ClassVar[str] = "Write"
    verb: ClassVar[str] = "Write on"
    summary: ClassVar[str] = (
        "Goes on where your text stops, in one of eleven voices, and shows what else it could have said."
    )
    caution: ClassVar[str] = "It writes like old books and film reviews; it knows no facts and loses the thread."
    inputs: ClassVar[Mapping[str, Field]] = {
        "prompt": Text(
            title="Beginning",
            help=f"English. Of a long one the last {READ:,} characters are read.",
            required=False,
            default="",
            allow_blank=True,
            max_length=50_000,
        ),
    }
    options: ClassVar[Mapping[str, Field]] = {
        "voice": Choice(title="Voice", required=False, default="sherlock", choices=VOICES),
        "max_new_tokens": Integer(
            title="Length", help="Tokens, each about three quarters of a word.", required=False, default=160,
            minimum=1, maximum=1_000,
        ),
        "temperature": Number(
            title="Careful ... wild", help="0 always takes the likeliest; above 1 it rambles.", required=False,
            default=0.8, minimum=0, maximum=2, step=0.05,
        ),
        "top_k": Integer(
            title="Top-k", help="Only so many of the likeliest tokens; 0 is all.", required=False, default=0,
            minimum=0, maximum=1_000,
        ),
        "top_p": Number(
            title="Top-p", help="Only the likeliest tokens that make up this share.", required=False, default=0.95,
            minimum=0.01, maximum=1, step=0.01,
        ),
        "min_p": Number(
            title="Min-p", help="Only tokens with this share of the likeliest one's probability.", required=False,
            default=0.0, minimum=0, maximum=1, step=0.01,
        ),
        "repetition_penalty": Number(
            title="Against repetition", help="1 is none.", required=False, default=1.1, minimum=1, maximum=2, step=0.05,
        ),
        "stop": List(
            title="Stop at", help=r"Strings at which it stops; they are left out. \n is a line's end.",
            required=False, default=[], of=StopString(title="Stop string", max_length=40, allow_blank=True),
            max_items=8,
        ),
        "num_return_sequences": Integer(
            title="Continuations", help="Written side by side.", required=False, default=1, minimum=1, maximum=3,
        ),
        "seed": Integer(
            title="Seed", help="The same seed gives the same text; empty draws one.", required=False, minimum=0,
            maximum=2**32 - 1,
        ),
    }  # fmt: skip
    shown_options: ClassVar[Sequence[str]] = ("voice", "temperature", "max_new_tokens")
    output: ClassVar[Mapping[str, Field]] = {
        "generated_text": Text(title="Continuation", allow_blank=True, max_length=100_000),
        "finish_reason": _REASON,
        "seed": Integer(title="Seed", minimum=0),
        "notice": Text(title="Notice", allow_blank=True),
        "tokens": List(title="Tokens", of=_TOKEN),
        "others": List(
            title="Other continuations",
            of=Record(
                fields={
                    "generated_text": Text(title="Continuation", allow_blank=True, max_length=100_000),
                    "finish_reason": _REASON,
                    "tokens": List(title="Tokens", of=_TOKEN),
                }
            ),
        ),
    }
    examples: ClassVar[Sequence[Example]] = [
        Example(
            "A foggy morning", {"prompt": "The fog lay thick upon Baker Street when"}, {"voice": "sherlock", "seed": 7}
        ),
        Example(
            "A ship in space", {"prompt": "The captain looked at the red planet and"}, {"voice": "scifi", "seed": 3}
        ),
        Example("A ball", {"prompt": "It was generally agreed that the new neighbour"}, {"voice": "austen", "seed": 5}),
        Example(
            "A cellar", {"prompt": "I had never gone down those steps at night, but"}, {"voice": "horror", "seed": 2}
        ),
        Example("A film", {"prompt": "I expected very little of this film, and"}, {"voice": "reviews", "seed": 4}),
    ]
    default_variant: ClassVar[str] = "voices"
    max_batch_size: ClassVar[int] = 32
    streams: ClassVar[bool] = True
    unit: ClassVar[str] = "tokens"
    question: ClassVar[str] = ""  # a story is neither right nor wrong

    def clean(self, inputs: Any, options: Any) -> tuple[JSON, JSON]:
        """Also: a seed is drawn where none is given, so that a job that is taken up again goes on alike."""
        found, chosen = super().clean(inputs, options)
        if chosen["seed"] is None:
            chosen["seed"] = secrets.randbelow(2**32)
        return found, chosen

    def options_again(self, options: JSON) -> JSON:
        """Without the seed: the same beginning is to go on otherwise."""
        return {**options, "seed": None}

    def load_assets(self, bundle: Bundle) -> Assets:
        """Vocabulary and voices."""
        return Assets(TextTokenizer(bundle.read("tokenizer.model")), tuple(bundle.config["voices"]))

    def estimate(self, inputs: JSON) -> int:
        """Prompts are read one by one: all rows cost alike."""
        return 64

    def length_bucket(self, inputs: JSON) -> int:
        """Rows of all lengths share a batch."""
        return 0

    def headline(self, inputs: JSON) -> str:
        """The prompt, or that there is none."""
        return super().headline(inputs) or "A new text"

    def preprocess(self, inputs: JSON, options: JSON, assets: Assets) -> Item:
        """The prompt's end as tokens; an empty one begins a paragraph, and so does any that is read from its start."""
        if options["voice"] not in assets.voices:
            raise InvalidInput("voice", f"This model has no such voice. It has: {', '.join(assets.voices)}.")
        given = inputs["prompt"].replace("\r\n", "\n")
        prompt = given.rstrip(" ")[-READ:]  # a word's space is part of its token
        spaces = len(given) - len(given.rstrip(" "))
        ids = assets.tokenizer.encode(prompt) if prompt.strip() else []
        notices = []
        read = len(prompt) + spaces
        if len(ids) > READ_TOKENS:
            ids = ids[-READ_TOKENS:]
            read = len(assets.tokenizer.decode(ids)) + spaces
        if read < len(given):
            notices.append(f"Of {len(given):,} characters the last {read:,} were read.")
        if read == len(given) or not ids:
            ids = [*assets.tokenizer.encode("\n"), *ids]
        letters = [character for character in prompt if character.isalpha()]
        if letters and sum(character.isascii() for character in letters) < 0.5 * len(letters):
            notices.append("The model knows English only; what it writes after this may make little sense.")
        notice = " ".join(notices)
        texts = [
            Writing(
                tokenizer=assets.tokenizer,
                prompt=ids,
                voice=assets.voices.index(options["voice"]),
                number=number,
                limit=options["max_new_tokens"],
                stops=tuple(options["stop"]),
                before=(prompt + " " * bool(spaces)).encode()[-80:],
                spaced=bool(prompt.strip() and spaces),
                notice="" if number else notice,
            )
            for number in range(options["num_return_sequences"])
        ]
        return Item({}, options, Row(texts, options["seed"], notice), len(ids))

    def resume(self, item: Item, partial: JSON, assets: Assets) -> Item:
        """Take up what was written before a worker ended."""
        row: Row = item.context
        for number, part in partial.get("parts", {}).items():
            text = row.continuations[int(number)]
            for token, known in zip(part["ids"], part["tokens"], strict=True):
                text.push(token, known["logprob"], [])
                text.tokens[-1] = known
            text.told = len(text.tokens)
            text.reason = text.reason or part.get("finish_reason", "")
        return item

    def output_of_partial(self, options: JSON, partial: JSON) -> JSON:
        """What a text that was stopped while no worker held it has come to."""
        parts = partial.get("parts", {})
        texts = []
        for number in range(options["num_return_sequences"]):
            part = parts.get(str(number), {})
            tokens, reason = part.get("tokens", []), part.get("finish_reason", "cancelled")
            text = "".join(token["text"] for token in tokens)
            if ends := [text.index(stop) for stop in options["stop"] if stop in text]:
                text, reason = text[: min(ends)], "stop"
            elif len(tokens) >= options["max_new_tokens"]:
                reason = "length"
            texts.append({"generated_text": text, "finish_reason": reason, "tokens": tokens})
        first, *others = texts
        notice = parts.get("0", {}).get("notice", "")
        return {**first, "seed": options["seed"], "notice": notice, "others": others}

    def for_self_test(self, options: JSON) -> JSON:
        """Short, and without chance: a draw near the edge of two tokens falls otherwise on another machine."""
        return {**options, "max_new_tokens": 24, "temperature": 0}

    def merge_part(self, known: JSON, fresh: JSON) -> JSON:
        """Tokens that came are put behind those that are known."""
        start = fresh["start"]
        behind = {name: [*known.get(name, [])[:start], *fresh[name]] for name in ("ids", "tokens")}
        return {**known, **fresh, **behind, "start": 0}

    def postprocess(self, raw: Any, item: Item, assets: Assets) -> JSON:
        """The continuation with its tokens, and the others."""
        row: Row = item.context
        first, *others = (text.output() for text in row.continuations)
        return {**first, "seed": row.seed, "notice": row.notice, "others": others}

    def strip(self, inputs: JSON, output: JSON) -> Strip:
        """The continuation, each token tinted by how much it surprised the model."""
        cells, at = [], 0
        text = "".join(token["text"] for token in output["tokens"])[: len(output["generated_text"])]
        for step, token in enumerate(output["tokens"]):
            start, at = at, min(len(text), at + len(token["text"]))
            if start < at:
                lead = len(text[start:at]) - len(text[start:at].lstrip())
                trail = len(text[start:at]) - len(text[start:at].rstrip())
                lead, trail = (lead, trail) if lead + trail < at - start else (0, 0)  # blanks alone are a cell too
                cells.append(Cell(start + lead, at - trail, _surprise(token), _detail(token), 0, step))
        return Strip(
            text=text,
            kind="confidence",
            cells=cells,
            low="expected",
            high="a surprise",
            value="Probability and what else",
            hint="Point at a token, or move with the arrow keys, to see what else it could be; a click holds it.",
        )

    def headline_of_output(self, output: JSON) -> str:
        """The first words."""
        return " ".join(output["generated_text"][:400].split()) or "Nothing came"

    def text_of_output(self, output: JSON) -> str:
        """The continuation; of several all, set apart."""
        return "\n\n* * *\n\n".join(text["generated_text"] for text in (output, *output["others"]))

    def columns(self, output: JSON) -> JSON:
        """Text, reason and seed."""
        return {name: output[name] for name in ("generated_text", "finish_reason", "seed")}


def _surprise(token: JSON) -> float:
    """0 for a sure token, 1 for one of a probability of a thousandth or less."""
    return min(1.0, max(0.0, -float(token["logprob"]) / 6.9))


def _detail(token: JSON) -> str:
    import math

    others = ", ".join(f"“{entry['text'].strip() or '␣'}” {entry['prob'] * 100:.0f} %" for entry in token["top"])
    return f"{math.exp(token['logprob']) * 100:.1f} %" + (f"; likeliest: {others}" if others else "")
