"""Books as streams of tokens, one voice each, for a language model with carried state.

Data: `lm/<voice>.{train,valid}.txt.xz` (a line a paragraph, `### Title / Author` opens a book; public-domain books of
Standard Ebooks and, as `novels_1895_1937`, the 43 younger ones of computationalstylistics' 100 English novels),
`sentiment/imdb.unsup.txt.xz` (Maas et al. 2011) as the voice `reviews`, of which every fiftieth is held out;
`lm/tinyshakespeare.*` (Karpathy 2015; nanoGPT's split).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlcore.errors import InvalidInput
from mlcore.models.continuous_cache import Reading
from mlcore.models.lstm_language_model import Model, State
from mlcore.subwords import TextTokenizer
from mlcore.tasks.text_generation import VOICES
from mlcore.training.data import read_lines
from mlcore.training.losses import blockwise_cross_entropy, sampled_cross_entropy

FILES = {voice: voice for voice in VOICES if voice != "reviews"} | {"novels": "novels_1895_1937"}
HALVED = "reviews"  # a voice of which an epoch reads every second piece: it is a third of all text
Batch = dict[str, Tensor]


def texts(data: Path, voice: str, split: str, *, limit: int = 0) -> list[str]:
    """Books of a voice, or its held-out text; `limit` takes only so many characters of the first."""
    if voice == "reviews":
        lines = list(read_lines(_existing(data / "sentiment" / "imdb.unsup.txt.xz")))
        held = [line for place, line in enumerate(lines) if (place % 50 == 0) == (split == "valid")]
        found = ["\n".join(line.replace("<br />", "\n") for line in held) + "\n"]
    else:
        whole = "\n".join(read_lines(_existing(data / "lm" / f"{FILES.get(voice, voice)}.{split}.txt.xz"))) + "\n"
        found = [whole]
        if split == "train":
            found = [("### " if place else "") + part for place, part in enumerate(whole.split("\n### "))]
            found = [part if part.endswith("\n") else f"{part}\n" for part in found]
    return [found[0][:limit]] if limit else found


def _existing(path: Path) -> Path:
    if not path.exists():
        raise InvalidInput("data", f"{path} is missing.")
    return path


def pieces(text: str, characters: int) -> list[str]:
    """A book cut at line ends into pieces of about so many characters, its heading at the head of each; 0 cuts nothing.

    Held-out chapters have their heading too, and what a book is called says much about who is in it.
    """
    lines = text.splitlines(keepends=True)
    heading = lines[0] if lines and lines[0].startswith("### ") else ""
    if not characters or len(text) <= characters:
        return [text]
    goal = len(text) / max(1, round(len(text) / characters))
    found, size = [""], 0
    for line in lines[1:] if heading else lines:
        if size >= goal * len(found):
            found.append("")
        found[-1] += line
        size += len(line)
    return [heading + piece for piece in found]


class StreamBatches:
    """Rows of one long stream of pieces of books in random order; the state is carried from window to window.

    `steps` are the lengths of a window, drawn anew each time (variable-length truncated BPTT). `seed` and the number of
    an epoch give the order. `halved` is a voice of which each epoch reads every second piece.
    """

    def __init__(
        self,
        books: Sequence[tuple[int, NDArray[np.int32]]],
        *,
        rows: int,
        seed: int | Sequence[int],
        steps: Sequence[int] = (56, 64, 72),
        halved: int | None = None,
    ) -> None:
        self.books, self.rows, self.steps, self.halved = books, rows, steps, halved
        self.seed = [seed] if isinstance(seed, int) else list(seed)

    def _chosen(self, generator: np.random.Generator, number: int) -> NDArray[np.int64]:
        """The pieces of an epoch, in their order; both halves are read in two epochs that follow one another."""
        once = np.random.default_rng([*self.seed, number // 2]).permutation(len(self.books))
        half = [place for place in once if self.books[place][0] == self.halved]
        rest = [place for place in range(len(self.books)) if self.books[place][0] != self.halved]
        return generator.permutation(np.array([*rest, *half[number % 2 :: 2]], dtype=np.int64))

    def epoch(self, number: int, *, skip: int) -> Iterator[Batch]:
        """Batches of tokens and voices (B, T + 1); `first` (1,) is 1 where the state begins anew."""
        generator = np.random.default_rng([*self.seed, number])
        order = self._chosen(generator, number)
        tokens = np.concatenate([self.books[i][1] for i in order])
        voices = np.concatenate([np.full(len(self.books[i][1]), self.books[i][0], dtype=np.int8) for i in order])
        offset = int(generator.integers(max(1, min(1_000, len(tokens) // (4 * self.rows)))))
        length = (len(tokens) - offset) // self.rows
        tokens, voices = (x[offset : offset + length * self.rows].reshape(self.rows, length) for x in (tokens, voices))
        start = place = 0
        while start + 2 < length:
            steps = min(int(generator.choice(self.steps)), length - start - 1)
            if place >= skip:
                window = slice(start, start + steps + 1)
                yield {
                    "tokens": torch.from_numpy(tokens[:, window].astype(np.int64)),
                    "voices": torch.from_numpy(voices[:, window].astype(np.int64)),
                    "first": torch.tensor([int(place == skip)]),
                }
            start, place = start + steps, place + 1


class CarriedLoss:
    """Nats a token of one window after another; a window's last state is the next one's first, without its gradient.

    With `candidates` it is summed over so many pieces of the vocabulary, three eighths of them the first ones: symbols,
    bytes and the most frequent (see `sampled_cross_entropy`).
    """

    def __init__(self, candidates: int = 0) -> None:
        self.candidates = candidates
        self.state: State | None = None

    def __call__(self, model: Model, batch: Batch) -> Tensor:
        """Scalar."""
        state = None if bool(batch["first"]) else self.state
        tokens, voices = batch["tokens"], batch["voices"]
        hidden, after = model(tokens[:, :-1], voices[:, :-1], state)
        goal = tokens[:, 1:].flatten()
        parts = (hidden.flatten(0, 1), model.embedding.weight, model.bias, goal)
        if self.candidates:
            total = sampled_cross_entropy(*parts, size=self.candidates, always=self.candidates * 3 // 8)
        else:
            total = blockwise_cross_entropy(*parts)
        loss = total / len(goal)
        # a state that is no number would spoil all windows behind it
        self.state = [(h.detach().float(), c.detach().float()) for h, c in after] if bool(loss.isfinite()) else None
        return loss


def bits_per_character(model: Model, tokenizer: TextTokenizer, text: str, voice: int, *, rows: int = 1) -> float:
    """Bits a character of a text, read as one stream with carried state; the first token counts too.

    With `rows` over 1 the stream is cut into so many, read side by side from a zero state each: faster, and a little
    pessimistic.
    """
    return nats(model, tokenizer, text, voice, rows=rows) / max(1, len(text)) / float(np.log(2))


def nats(model: Model, tokenizer: TextTokenizer, text: str, voice: int, *, rows: int = 1) -> float:
    """Negative log-likelihood of a text."""
    ids = _ids(tokenizer, text)
    length = -(-(len(ids) - 1) // rows)
    # row r reads its tokens from the last one of row r - 1 on
    streams = [ids[row * length : (row + 1) * length + 1] for row in range(rows)]
    return sum(
        found.nats for found in nats_of_streams(model, [(voice, stream) for stream in streams if len(stream) > 1])
    )


def nats_of_texts(model: Model, tokenizer: TextTokenizer, held: Sequence[tuple[int, str]]) -> list[Cost]:
    """What texts (voice, text) cost, each read as one stream, all side by side."""
    return nats_of_streams(model, [(voice, _ids(tokenizer, text)) for voice, text in held])


def _ids(tokenizer: TextTokenizer, text: str) -> list[int]:
    """A text's tokens behind a line's end, which is what the first one is told from."""
    return [tokenizer.encode("\n")[0], *(i for line in text.splitlines(keepends=True) for i in tokenizer.encode(line))]


@dataclass(frozen=True)
class Cost:
    """Negative log-likelihood of a stream in nats: of the model, and of its LSTMs without the cache."""

    nats: float
    uncached: float


def nats_of_streams(model: Model, streams: Sequence[tuple[int, Sequence[int]]]) -> list[Cost]:
    """What all tokens but the first of each stream (voice, ids) cost, given those before."""
    device = model.bias.device
    totals = np.zeros((len(streams), 2))
    cache = Reading(model.config.cache) if model.config.cache else None
    order = sorted(range(len(streams)), key=lambda row: -len(streams[row][1]))  # those that have ended are the last
    state: State | None = None
    with torch.inference_mode():
        for start in range(0, max((len(ids) for _, ids in streams), default=1) - 1, 256):
            order = [row for row in order if len(streams[row][1]) - 1 > start]
            parts = [streams[row][1][start : start + 257] for row in order]
            table = np.zeros((len(parts), max(map(len, parts))), dtype=np.int64)
            for line, part in zip(table, parts, strict=True):
                line[: len(part)] = part
            window = torch.from_numpy(table).to(device)
            voices = torch.tensor([streams[row][0] for row in order], device=device)[:, None].expand(
                window[:, 1:].shape
            )
            if state is not None:
                state = [(h[:, : len(order)].contiguous(), c[:, : len(order)].contiguous()) for h, c in state]
            hidden, state = model(window[:, :-1], voices, state)
            log_p = model.logits(hidden).float().log_softmax(dim=-1)
            plain = log_p.gather(2, window[:, 1:, None])[..., 0].double()
            gained = plain
            if cache:
                chances, share = cache.chances(hidden, window[:, 1:])
                gained = (plain.exp() * (1 - share) + chances.double() * share).log()
            for row, *lines, part in zip(order, gained.cpu().numpy(), plain.cpu().numpy(), parts, strict=True):
                totals[row] -= [line[: len(part) - 1].sum() for line in lines]
    return [Cost(*map(float, pair)) for pair in totals]
