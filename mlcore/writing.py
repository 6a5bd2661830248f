"""A text while it is written: when it ends, and what never comes out."""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import islice
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import InvalidInput
from mlcore.fields import Text
from mlcore.subwords import TextTokenizer
from mlcore.task import JSON

_BANNED = Path(__file__).resolve().parent / "examples" / "banned_words.json"
_REFUSED = frozenset({*range(32), 127, ord("#")} - {ord("\n"), ord("\t")})  # bytes: control characters, headings
SHOWN = 5  # tokens that are shown beside each one
_WORD = re.compile(r"[^\W\d_]+")
_LAST_WORD = re.compile(r"[^\W\d_]+\Z")


@cache
def banned_words() -> frozenset[str]:
    """SHA-256 of words that are never written, in lower case: the repository does not spell them."""
    return frozenset(json.loads(_BANNED.read_text(encoding="ascii")))


@lru_cache(maxsize=1 << 16)
def _digest(word: str) -> str:
    return hashlib.sha256(word.lower().encode()).hexdigest()


def is_banned(word: str) -> bool:
    """Whether a word is never written."""
    return _digest(word) in banned_words()


@dataclass(frozen=True, kw_only=True)
class StopString(Text):
    """Any characters, blank ones too; a backslash and n, as it is typed into a form, is a line's end."""

    def check(self, name: str, value: Any) -> str:
        """Refuse an empty one, which would stop at once."""
        if value == "":
            raise InvalidInput(name, "A stop string is empty. Give at least one character, or leave it out.")
        return super().check(name, value).replace("\\n", "\n")

    def show(self, value: Any) -> Any:
        """As it is typed into a form, where each line is a string of its own."""
        return value.replace("\n", "\\n") if isinstance(value, str) else value

    def schema(self) -> dict[str, Any]:
        """JSON Schema: a string of at least one character."""
        return {**super().schema(), "minLength": 1}


@dataclass
class Writing:
    """One text while it is written: what `mlcore.generation` asks and tells."""

    tokenizer: TextTokenizer
    prompt: list[int]
    voice: int
    number: int
    limit: int
    stops: tuple[str, ...]
    before: bytes = b""  # the prompt's end: a word may begin there
    spaced: bool = False  # the prompt ended with a space, which the model did not read: its pieces begin with one
    written: list[int] = field(default_factory=list)
    tokens: list[JSON] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)  # of all tokens; a character may be several of them
    decoder: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("ignore"))
    tail: str = ""  # the end of the text, as far as a stop string may have begun in it
    reason: str = ""
    notice: str = ""  # what is told with its first tokens
    told: int = 0  # tokens that were told
    told_end: bool = False  # and that it has ended
    _word: tuple[int, str, bytes] = (-1, "", b"")  # what `_last_word` found at so many bytes: asked for every candidate

    @property
    def finished(self) -> bool:
        """Whether it has ended."""
        return bool(self.reason)

    @property
    def text(self) -> str:
        """What was written, without the stop string."""
        text = self.raw.decode("utf-8", "ignore")
        if self.reason == "stop":
            return text[: min(text.index(stop) for stop in self.stops if stop in text)]
        return text

    @property
    def refused(self) -> NDArray[np.bool_]:
        """(V,): special symbols, headings' marks, what leaves half a character behind; at the beginning the end."""
        return _refused(self.tokenizer, _begun(self.raw), not self.written, self.spaced and not self.written)

    def allows(self, token: int) -> bool:
        """Whether a token may come: none that is `refused`, and no end of a banned word."""
        if self.refused[token]:
            return False
        word, begun = self._last_word()
        # decoded together: a character may be several tokens
        tail = word + (begun + self.tokenizer.raw[token]).decode("utf-8", "ignore")
        return not any(is_banned(found[0]) for found in _WORD.finditer(tail) if found.end() > len(word))

    def _last_word(self) -> tuple[str, bytes]:
        """The letters at the end of prompt and text, and the bytes of a character that is begun behind them."""
        if self._word[0] != len(self.raw):
            known = (self.before + self.raw[-80:])[-80:]
            begun = _begun(known)
            letters = _LAST_WORD.search(known[: len(known) - len(begun)].decode("utf-8", "ignore"))
            self._word = (len(self.raw), letters[0] if letters else "", begun)
        return self._word[1:]

    def push(self, token: int, logprob: float, top: list[tuple[int, float]]) -> None:
        """Take the next token; the likeliest are shown, up to five, whatever the options leave of them."""
        could = islice(((index, p) for index, p in top if self.allows(index)), SHOWN)
        shown = [{"text": self._shown(index), "prob": round(p, 4)} for index, p in could]
        piece = self._piece(token)
        if token == self.tokenizer.eos_id:
            self.reason = "eos"
            return
        self.written.append(token)
        self.raw += piece
        came = self.decoder.decode(piece)
        self.tokens.append({"text": came, "logprob": round(logprob, 4), "top": shown})
        self.tail = (self.tail + came)[-len(came) - max(map(len, self.stops), default=0) :]
        if any(stop in self.tail for stop in self.stops):
            self.reason = "stop"
        elif len(self.written) >= self.limit:
            self.reason = "length"

    def _shown(self, token: int) -> str:
        return "∎" if token == self.tokenizer.eos_id else self._piece(token).decode("utf-8", "replace")

    def _piece(self, token: int) -> bytes:
        """What a token would put behind the text: the space that the prompt ended with is not written again."""
        piece = self.tokenizer.raw[token]
        return piece.removeprefix(b" ") if self.spaced and not self.written else piece

    def fresh(self) -> JSON:
        """Tokens that were not told yet, and where they stand; why it ended, once it has; its notice at the start."""
        start, self.told = self.told, len(self.tokens)
        ended, self.told_end = self.finished and not self.told_end, self.finished
        if start == self.told and not ended:
            return {}
        found: JSON = {"start": start, "ids": self.written[start:], "tokens": self.tokens[start:]}
        if self.notice and not start:
            found["notice"] = self.notice
        return found | ({"finish_reason": self.reason} if ended else {})

    def output(self) -> JSON:
        """The whole continuation."""
        return {"generated_text": self.text, "finish_reason": self.reason or "cancelled", "tokens": self.tokens}


_MASKS = 64  # that are kept; there are as many as beginnings of characters
_masks: WeakKeyDictionary[TextTokenizer, dict[tuple[bytes, bool, bool], NDArray[np.bool_]]] = WeakKeyDictionary()


def _refused(tokenizer: TextTokenizer, begun: bytes, at_start: bool, spaced: bool) -> NDArray[np.bool_]:
    """(V,) tokens that may not follow a text of whole characters and the bytes of one that is `begun`.

    Where `spaced`, those that are no space with a word behind it may not either, if the vocabulary has any.
    """
    known = _masks.setdefault(tokenizer, {})
    kind = (begun, at_start, spaced)
    if kind not in known:
        if len(known) >= _MASKS:
            known.clear()
        found = np.array([not _is_plain(piece) or not _may_follow(begun, piece) for piece in tokenizer.raw])
        found[tokenizer.eos_id] = at_start
        starts = np.array([len(piece) > 1 and piece.startswith(b" ") for piece in tokenizer.raw])
        known[kind] = found | ~starts if spaced and not (found | ~starts).all() else found
    return known[kind]


def _is_plain(piece: bytes) -> bool:
    """Whether a piece is text that may be written: no special symbol, no refused byte."""
    return bool(piece) and not any(byte in _REFUSED for byte in piece)


def _begun(raw: bytes | bytearray) -> bytes:
    """The last bytes of a text where they are a character's first ones and not yet all of it."""
    for size in (1, 2, 3):
        lead = raw[-size] if len(raw) >= size else 0
        if lead >= 0xC0:
            return bytes(raw[-size:]) if size < 2 + (lead >= 0xE0) + (lead >= 0xF0) else b""
        if lead < 0x80:
            break
    return b""


def _may_follow(begun: bytes, piece: bytes) -> bool:
    """Whether a piece goes on as UTF-8 may: from a character that is begun to a whole one, or another's beginning.

    Control characters behind ASCII, two bytes each, may not be one.
    """
    try:
        return not any("\x7f" <= character <= "\x9f" for character in (begun + piece).decode())
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
