"""What a translation leaves as it is, behind numbered marks that the model has learned to carry over.

Web and mail addresses, @names, `code`, {placeholders}, tags, emoji and words too long for any vocabulary come out
unchanged; digits of a sentence too, with the separators of the target language; glossary terms come out as the glossary
says.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

COUNT = 24  # marks that a vocabulary holds
LONGEST_WORD = 40  # characters
# behind thousands, before decimals; a space of French is a no-break one
SEPARATORS: Mapping[str, tuple[str, str]] = {
    **{"en": (",", "."), "de": (".", ","), "es": (".", ","), "nl": (".", ",")},
    "fr": ("\u202f", ","),
}
_SPACES = "\u00a0\u202f\u2009"
_DOMAIN = r"(?:com|org|net|info|edu|gov|eu|de|fr|es|uk|ch|at|be|io|dev|app)"
_SMALL = "¼-¾⅐-⅞²³¹⁰⁴-⁹₀-₉①-⑳"  # fractions, raised and lowered digits: Unicode's normal forms would take them apart
_NUMBER = rf"\d+(?:[.,:/'{_SPACES}-]\d+)*[{_SMALL}]*"  # with times, dates and ranges
_PICTURES = "\U0001f000-\U0001faff☀-➿⬀-⯿‼⁉™ℹ←-⇿⌚-⏿Ⓜ■-◿〰〽㊗㊙"
_KEPT = re.compile(
    rf"""
      (?P<code>`[^`\n]+`)
    | (?P<link>(?:(?i:https?|ftp)://|www\.)(?:[^\s<>"()]|\([^\s<>"()]*\))*
        (?:[^\s<>".,;:!?()\]'’»]|\([^\s<>"()]*\)))
    | (?P<target>(?<=\])\([^()\s]+(?:[ ]+"[^"\n]*")?\))
    | (?P<mail>[\w.+-]+@[\w-]+(?:\.[\w-]+)+)
    | (?P<domain>(?<![\w.])(?:[\w-]+\.)+{_DOMAIN}\b(?:/[\w./?=&%-]*\w)?)
    | (?P<keycap>[0-9\#*]\uFE0F?\u20E3)
    | (?P<name>(?<!\w)[@\#]\w+)
    | (?P<brace>\{{\{{[^{{}}\n]{{1,60}}\}}\}}|\$?\{{[^{{}}\n]{{0,60}}\}}|%\(\w+\)[sd]
        |%(?:\d+\$)?[-+0\#]*(?:[1-9]\d*)?(?:\.\d+)?[sdifgeuxX@](?!\w))
    | (?P<tag></?[a-zA-Z][^<>\n]{{0,200}}>|<\w+/>|&\w+;|<!--[^\n]{{0,500}}?-->)
    | (?P<emoji>(?:[{_PICTURES}][\U0001F3FB-\U0001F3FF\uFE0F\u200D\U0001F1E6-\U0001F1FF\U000E0020-\U000E007F]*)+)
    | (?P<path>(?<!\w)(?:[A-Za-z]:\\|~?/)[\w.\\/-]+[\w/])
    | (?P<identifier>(?<!\w)\w*[^\W_]_[^\W_]\w*)
    | (?P<number>(?<![\w<])[+-]?{_NUMBER}|(?<=[^\W\d_]){_NUMBER}|(?<=[<_]){_NUMBER}|[{_SMALL}]+)
    | (?P<long>\S{{{LONGEST_WORD + 1},}})
    """,
    re.VERBOSE,
)
# most sentences hold nothing of all that: one look tells
_SOME = re.compile(
    rf"[\d`@#{{}}%<&/\\_{_SMALL}{_PICTURES}]|\w\.[a-z]{{2}}|\]\(|\*\uFE0F?\u20E3|\S{{{LONGEST_WORD + 1}}}"
)
_GLUED = re.compile(r"(?:[^\W\d_]-?|\b[A-Z]{2,}/)\Z")  # what stands before the number of a version, a model, a part
# what is counted in numbers with dots that are no decimals
_NUMBERED = re.compile(
    r"(?i:\b(?:version|release|section|chapter|figure|table|room|kapitel|abschnitt|abbildung|tabelle|raum|sección|"
    r"capítulo|figura|tabla|sala|chapitre|tableau|salle))\s\Z"
)
_ADDRESS = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!\Z)|\Z)){4}")  # IPv4: its dots group no thousands
_HOUR, _NOON = re.compile(r"\d{1,2}\.\d\d"), re.compile(r"\s?[ap]\.?m\b", re.IGNORECASE)  # 8.30 am: English alone
_TAG = re.compile(r"<(/?)[a-zA-Z][^<>\n]*(?<!/)>")
_MARK = re.compile(r"<p(\d+)>")
_WORDS = re.compile(r"(?<![\w<])[^\W\d_]{3,}(?!\w)")


@dataclass(frozen=True)
class Protected:
    """A text with marks in it, and what each mark stands for in the translation."""

    text: str
    values: tuple[str, ...]
    originals: tuple[str, ...]  # what stood there

    def restore(self, text: str) -> str:
        """A translation with the marks replaced; marks of other texts are dropped."""
        return _fill(text, self.values)

    def tightened(self, text: str) -> str:
        """A marked translation without spaces inside tags where the source has none: models set marks like words."""
        for place, original in enumerate(self.originals):
            tag, here = _TAG.fullmatch(original), mark(place)
            if tag and tag[1] and f" {here}" not in self.text:
                text = re.sub(rf" +{here}", here, text)
            elif tag and not tag[1] and f"{here} " not in self.text:
                text = re.sub(rf"{here} +", here, text)
        return text

    def original(self, text: str) -> str:
        """A part of the marked source as it was."""
        return _fill(text, self.originals)

    def missing(self, text: str) -> list[str]:
        """Values whose marks a translation lacks, each as often as it does."""
        left = Counter(_MARK.findall(self.text)) - Counter(_MARK.findall(text))
        return [self.values[int(number)] for number in sorted(left.elements(), key=int)]


def _fill(text: str, values: Sequence[str]) -> str:
    return _MARK.sub(lambda match: values[int(match[1])] if int(match[1]) < len(values) else "", text)


def outside_marks(text: str, change: Callable[[str], str]) -> str:
    """A marked text with `change` made to all but its marks."""
    parts = re.split(r"(<p\d+>)", text)
    return "".join(part if _MARK.fullmatch(part) else change(part) for part in parts)


def mark(number: int) -> str:
    """The mark of a number, a symbol of the vocabulary of its own."""
    return f"<p{number}>"


MARKS = tuple(map(mark, range(COUNT)))


def protect(text: str, source: str, target: str, glossary: Sequence[Sequence[str]] = ()) -> Protected:
    """Put marks in the places of what must not be translated; the same words have the same mark."""
    kept: list[tuple[str, str]] = []  # (in the translation, in the text)
    found: list[str] = []
    at = 0
    for start, end, value in _spans(text, source, target, glossary):
        both = (value, text[start:end])
        if both not in kept and len(kept) < COUNT:
            kept.append(both)
        # where there are no marks left the words stay, but what looks like a mark must not be taken for one
        plain = _MARK.sub(r"‹p\1›", text[start:end])
        found += [text[at:start], mark(kept.index(both)) if both in kept else plain]
        at = end
    marked = "".join(found) + text[at:]
    return Protected(marked, tuple(value for value, _ in kept), tuple(original for _, original in kept))


def _spans(text: str, source: str, target: str, glossary: Sequence[Sequence[str]]) -> list[tuple[int, int, str]]:
    """(start, end, value in the target language) of all that is kept, in order, none within another.

    A glossary's term goes before numbers and names in it, not before an address or piece of code around it.
    """
    kept: list[tuple[int, int, str, bool]] = []
    for match in _matches(text):
        value = match.group()
        before = text[max(0, match.start() - 40) : match.start()]
        if match.lastgroup == "number" and not (
            _GLUED.search(before)
            or _NUMBERED.search(before)
            or (source == "en" and all(map(_HOUR.fullmatch, value.split("-"))) and _NOON.match(text, match.end()))
        ):
            value = localised(value, source, target)
        may_go = match.lastgroup in ("number", "name", "emoji", "keycap", "identifier")
        kept.append((match.start(), match.end(), value, may_go))
    wanted = {term.casefold(): becomes for term, becomes in glossary}
    # folded, a term may be longer than what stands there (ß): both are looked for
    for match in _terms(tuple(sorted({*wanted, *(term for term, _ in glossary)}))).finditer(text) if wanted else ():
        start, end = match.span()
        met = [span for span in kept if span[0] < end and start < span[1]]
        if all(may_go and start <= first and last <= end for first, last, _, may_go in met):
            becomes = wanted.get(match.group().casefold(), match.group())
            kept = [span for span in kept if span not in met] + [(start, end, becomes, False)]
    return sorted(span[:3] for span in kept)


@lru_cache(maxsize=64)
def _terms(terms: tuple[str, ...]) -> re.Pattern[str]:
    """Any of these terms as whole words, the longest first."""
    longest = sorted(terms, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest))})(?!\w)", re.IGNORECASE)


def localised(number: str, source: str, target: str) -> str:
    """A number with the separators of another language, both of a range; what has more dots than one (dates, versions,
    internet addresses) or begins a group with 0 stays as it is."""
    if _ADDRESS.fullmatch(number):
        return number
    ends = re.fullmatch(r"(\d[^-]*)-(\d[^-]*)", number)
    if ends:
        return "-".join(localised(end, source, target) for end in ends.groups())
    thousands, decimal = SEPARATORS[source]
    spaces = _SPACES if source == "fr" else ""
    grouped = re.fullmatch(
        rf"([+-]?\d{{1,3}})((?:[{re.escape(thousands)}{spaces}]\d{{3}})+)(?:{re.escape(decimal)}(\d+))?", number
    )
    plain = re.fullmatch(rf"([+-]?\d+){re.escape(decimal)}(\d+)", number)
    if grouped and re.match(r"[+-]?0", number):
        return number
    new_thousands, new_decimal = SEPARATORS[target]
    if grouped:
        head, groups, rest = grouped.groups()
        whole = head + "".join(new_thousands + group for group in re.findall(r"\d{3}", groups))
        return whole + (new_decimal + rest if rest else "")
    return new_decimal.join(plain.groups()) if plain else number


def kept_places(text: str) -> list[tuple[int, int]]:
    """From where to where a text holds addresses, code and the like."""
    return [match.span() for match in _matches(text)]


def _matches(text: str) -> Iterable[re.Match[str]]:
    return _KEPT.finditer(text) if _SOME.search(text) else ()


def is_kept_whole(text: str) -> bool:
    """Whether nothing of a text is to be translated: it is an address, a piece of code, numbers."""
    return not any(map(str.isalpha, _KEPT.sub("", text)))


def protect_pair(
    ours: str, theirs: str, languages: tuple[str, str], *, share: Callable[[], bool], order: Sequence[int]
) -> tuple[str, str] | None:
    """A training pair with marks on both sides, or None where they disagree about what is kept.

    Numbers, addresses and the like must be the same on both sides. Words that stand on both sides as they are (names)
    get a mark when `share()` says so. `order` are the numbers of the marks to be used, so that all are learned.
    """
    left, right = protect(ours, *languages), protect(theirs, languages[1], languages[1])
    if Counter(_values(left)) != Counter(_values(right)):
        return None
    values = list(dict.fromkeys(left.values))
    if len(values) > len(order):
        return None
    numbers = dict(zip(values, order, strict=False))

    def renumbered(side: Protected) -> str:
        return _MARK.sub(lambda match: mark(numbers[side.values[int(match[1])]]), side.text)

    first, second = renumbered(left), renumbered(right)
    free = iter(order[len(numbers) :])
    here, there = Counter(_WORDS.findall(first)), Counter(_WORDS.findall(second))
    for word in here:
        if here[word] == there[word] == 1 and share() and (number := next(free, None)) is not None:
            first, second = (re.sub(rf"(?<![\w<]){word}(?!\w)", mark(number), side) for side in (first, second))
    return first, second


def _values(side: Protected) -> list[str]:
    return [side.values[int(number)] for number in _MARK.findall(side.text)]
