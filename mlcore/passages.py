"""A text as sentences to be translated and all that stays between them: line breaks, blank lines, list marks."""

from __future__ import annotations

import itertools
import logging
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import sentencex

from mlcore.placeholders import LONGEST_WORD, kept_places

logger = logging.getLogger(__name__)
_SPACES = re.compile(r"[^\S\n\r\t ]")
LONGEST = 400  # characters of a segment; a longer sentence is cut at a comma or a space
_MARKS = re.compile(r"\s*(?:(?:[-*+•–—>|◦▪‣·●○■]|\[[ xX]\]|#{1,6}|\(?\d{1,3}[.)]|\(?[a-zA-Z]\))\s+)*")
_INITIAL = re.compile(r"(?:^|[\s(])(?:[A-ZÄÖÜÉ]|[A-Z][a-z]|[a-z])\.\s+\Z")  # "M. Dupont", "J. R. Smith"
_ENDED = re.compile(r"[.!?:;…)\]\"'”’»]\s*\Z")
_COLUMNS = re.compile(r"(\t+| {3,})")  # what stands between columns is kept, each is a text of its own
_CLAUSE = re.compile(r"[,;:)–—]\s")
_SPACE = re.compile(" ")
_WRAPPED = 40  # characters: a shorter line was ended by its writer, a longer one perhaps by its width


@dataclass(frozen=True, slots=True)
class Segment:
    """`before` is kept as it is, `text` is translated; line breaks inside `text` are those of a wrapped paragraph."""

    before: str
    text: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A text taken apart: its segments in order, and what stands behind the last one."""

    segments: tuple[Segment, ...]
    tail: str

    def without(self, done: Callable[[str], str | None]) -> Passage:
        """The same text with the segments that need no translation, as `done` gives them, among what stays between."""
        segments: list[Segment] = []
        glue = ""
        for segment in self.segments:
            known = done(segment.text)
            if known is not None:
                glue += segment.before + known
            else:
                segments.append(Segment(glue + segment.before, segment.text))
                glue = ""
        return Passage(tuple(segments), glue + self.tail)

    def cut(self, too_long: Callable[[str], bool]) -> Passage:
        """The same text with segments halved, at a space where there is one, until none is too long."""
        segments: list[Segment] = []
        for segment in self.segments:
            before = segment.before
            for piece in _halved(segment.text, too_long):
                body = piece.strip()
                lead = piece[: len(piece) - len(piece.lstrip())]
                segments.append(Segment(before + lead, body))
                before = piece[len(lead) + len(body) :]
            if before:  # a segment ends in no space
                segments[-1] = Segment(segments[-1].before, segments[-1].text + before)
        return Passage(tuple(segments), self.tail)

    def join(self, texts: Sequence[str]) -> str:
        """The text with `texts` in the places of its segments."""
        parts = [segment.before + _wrap(text, segment.text) for segment, text in zip(self.segments, texts, strict=True)]
        return "".join(parts) + self.tail


def split(text: str, language: str) -> Passage:
    """Take a text apart by sentencex's rules for `language` (an ISO 639-1 code); nothing is lost."""
    segments: list[Segment] = []
    glue = ""
    for line in _unwrapped(text):
        marks = _MARKS.match(line)
        start = marks.end() if marks else 0
        glue += line[:start]
        for column in _COLUMNS.split(line[start:]):
            for piece in itertools.chain.from_iterable(map(_shortened, _sentences(column, language))):
                body = piece.strip()
                lead = piece[: len(piece) - len(piece.lstrip())]
                if not any(map(str.isalpha, body)):
                    glue += piece
                    continue
                segments.append(Segment(glue + lead, body))
                glue = piece[len(lead) + len(body) :]
    return Passage(tuple(segments), glue)


def _unwrapped(text: str) -> Iterator[str]:
    """Lines with their ends; lines that go on in the next one (wrapped at a width) are one."""
    held: list[str] = []
    for line in text.splitlines(keepends=True):
        if held and not _goes_on(held[-1], line):
            yield "".join(held)
            held = []
        held.append(line)
    if held:
        yield "".join(held)


def _goes_on(last: str, line: str) -> bool:
    if not last.endswith("\n"):  # other line ends are not put back into a wrapped text
        return False
    last = last.rstrip("\n\r")
    if len(last) < _WRAPPED or not line[:1].islower() or _ENDED.search(last[-8:]):
        return False
    marks = _MARKS.match(line)
    return not (marks and marks.group().strip())


def _segments(text: str, language: str) -> list[str]:
    """What sentencex makes of a line. It is shown plain spaces for all others, over which it may stumble."""
    plain = _SPACES.sub(" ", text)
    try:
        lengths = [len(sentence) for sentence in sentencex.segment(language, plain)]
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # a panic of its Rust half is no Exception
        logger.warning("sentencex cannot split a text of %d characters", len(text))
        return [text]
    if sum(lengths) != len(text):
        return [text]
    ends = list(itertools.accumulate(lengths))
    return [text[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def _sentences(text: str, language: str) -> list[str]:
    """Sentences with the white space behind them; an initial ends none."""
    found: list[list[str]] = []
    for sentence in _segments(text, language):
        if found and (_INITIAL.search(found[-1][-1]) or not sentence.strip()):
            found[-1].append(sentence)
        else:
            found.append([sentence])
    return ["".join(parts) for parts in found]


def _shortened(sentence: str) -> Iterator[str]:
    """Cut a very long sentence behind a comma or the like, else at a space, else anywhere but inside an address.

    A long address or piece of code, which is kept whole, counts as one character: behind its mark it is no longer.
    """
    begin, kept = 0, deque(kept_places(sentence) if len(sentence) > LONGEST else ())
    while len(sentence) - begin > LONGEST:
        near: list[tuple[int, int]] = []
        end = begin + LONGEST
        while kept and kept[0][0] < end:
            start, stop = kept.popleft()
            near.append((start, stop))
            end = max(end + (stop - start - 1 if stop - start > LONGEST_WORD else 0), stop)
        if end >= len(sentence):
            break
        ends = [match.end() for match in _CLAUSE.finditer(sentence, begin + (end - begin) // 3, end)]
        spaces = [match.end() for match in _SPACE.finditer(sentence, begin, end)]
        cut = _outside(ends, near) or _outside(spaces, near) or end
        kept.extendleft(span for span in reversed(near) if span[0] >= cut)
        yield sentence[begin:cut]
        begin = cut
    if begin < len(sentence):
        yield sentence[begin:]


def _outside(places: Sequence[int], kept: Sequence[tuple[int, int]]) -> int:
    """The last of some places that cuts nothing of what is kept whole; 0 where each does."""
    return next((place for place in reversed(places) if not any(start < place < stop for start, stop in kept)), 0)


def _halved(text: str, too_long: Callable[[str], bool]) -> Iterator[str]:
    if len(text) < 2 or not too_long(text):
        yield text
        return
    middle, kept = len(text) // 2, kept_places(text)
    spaces = [match.end() for match in re.finditer(" ", text[: middle + 1]) if match.end() > middle // 2]
    around = next((span for span in kept if span[0] < middle < span[1]), (middle, middle))
    free = [place for place in around if 0 < place < len(text)]
    cut = _outside(spaces, kept) or (free[-1] if free else middle)
    yield from _halved(text[:cut], too_long)
    yield from _halved(text[cut:], too_long)


def _wrap(text: str, source: str) -> str:
    """Put as many line breaks into `text` as its source had, at spaces nearest to the same share of its length."""
    for match in re.finditer(r"[ \t]*\r?\n[ \t]*", source):
        goal = round(match.start() / len(source) * len(text))
        kept = {place for start, end in kept_places(text) for place in range(start, end)}
        spaces = [place for place, character in enumerate(text) if character == " " and place not in kept]
        if spaces:
            place = min(spaces, key=lambda space: abs(space - goal))
            text = text[:place] + match.group() + text[place + 1 :]
    return text
