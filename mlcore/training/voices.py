"""Books as streams of tokens, one voice each, for a language model with carried state.

Data: `lm/<voice>.{train,valid}.txt.xz` (a line a paragraph, `### Title / Author` opens a book; public-domain books of
Standard Ebooks and 100 English novels of computationalstylistics), `sentiment/imdb.unsup.txt.xz` (Maas et al. 2011) as
the voice `reviews`, of which every fiftieth is held out; `lm/tinyshakespeare.*` (Karpathy 2015; nanoGPT's split).
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
from mlcore.models.lstm_language_model import Model, State
from mlcore.subwords import TextTokenizer
from mlcore.tasks.text_generation import VOICES
from mlcore.training.data import read_lines
from mlcore.training.losses import blockwise_cross_entropy

FILES = {voice: voice for voice in VOICES if voice != "reviews"} | {"novels": "novels_1895_1937"}
STEPS = (56, 64, 72)  # tokens of a window, drawn anew each time (variable-length truncated BPTT)
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Book:
    """A text that is read from its beginning, with line ends."""

    voice: int
    text: str


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


class StreamBatches:
    """Rows of one long stream of books in random order; the state is carried from window to window."""

    def __init__(self, books: Sequence[tuple[int, NDArray[np.int32]]], *, rows: int, seed: int) -> None:
        self.books, self.rows, self.seed = books, rows, seed

    def epoch(self, number: int, *, skip: int) -> Iterator[Batch]:
        """Batches of tokens and voices (B, T + 1); `first` (1,) is 1 where the state begins anew."""
        generator = np.random.default_rng([self.seed, number])
        order = generator.permutation(len(self.books))
        tokens = np.concatenate([self.books[i][1] for i in order])
        voices = np.concatenate([np.full(len(self.books[i][1]), self.books[i][0], dtype=np.int8) for i in order])
        offset = int(generator.integers(max(1, min(1_000, len(tokens) // (4 * self.rows)))))
        length = (len(tokens) - offset) // self.rows
        tokens, voices = (x[offset : offset + length * self.rows].reshape(self.rows, length) for x in (tokens, voices))
        start = place = 0
        while start + 2 < length:
            steps = min(int(generator.choice(STEPS)), length - start - 1)
            if place >= skip:
                window = slice(start, start + steps + 1)
                yield {
                    "tokens": torch.from_numpy(tokens[:, window].astype(np.int64)),
                    "voices": torch.from_numpy(voices[:, window].astype(np.int64)),
                    "first": torch.tensor([int(place == skip)]),
                }
            start, place = start + steps, place + 1


class CarriedLoss:
    """Nats a token of one window after another; a window's last state is the next one's first, without its gradient."""

    def __init__(self) -> None:
        self.state: State | None = None

    def __call__(self, model: Model, batch: Batch) -> Tensor:
        """Scalar."""
        state = None if bool(batch["first"]) else self.state
        tokens, voices = batch["tokens"], batch["voices"]
        hidden, after = model(tokens[:, :-1], voices[:, :-1], state)
        self.state = [(h.detach(), c.detach()) for h, c in after]
        goal = tokens[:, 1:].flatten()
        return blockwise_cross_entropy(hidden.flatten(0, 1), model.embedding.weight, model.bias, goal) / len(goal)


def bits_per_character(model: Model, tokenizer: TextTokenizer, text: str, voice: int, *, rows: int = 1) -> float:
    """Bits a character of a text, read as one stream with carried state; the first token counts too.

    With `rows` over 1 the stream is cut into so many, read side by side from a zero state each: faster, and a little
    pessimistic.
    """
    return nats(model, tokenizer, text, voice, rows=rows) / max(1, len(text)) / float(np.log(2))


def nats(model: Model, tokenizer: TextTokenizer, text: str, voice: int, *, rows: int = 1) -> float:
    """Negative log-likelihood of a text."""
    device = model.bias.device
    ids = [tokenizer.encode("\n")[0], *(i for line in text.splitlines(keepends=True) for i in tokenizer.encode(line))]
    length = -(-(len(ids) - 1) // rows)
    total = 0.0
    # row r reads its tokens from the last one of row r - 1 on; the ragged end is padded and not counted
    stream = np.zeros(rows * length + 1, dtype=np.int64)
    stream[: len(ids)] = ids
    table = np.stack([stream[row * length : (row + 1) * length + 1] for row in range(rows)])
    real = np.arange(rows * length).reshape(rows, length) < len(ids) - 1
    state: State | None = None
    with torch.inference_mode():
        for start in range(0, length, 256):
            window = torch.from_numpy(table[:, start : start + 257]).to(device)
            hidden, state = model(window[:, :-1], torch.full_like(window[:, :-1], voice), state)
            log_p = model.logits(hidden).float().log_softmax(dim=-1)
            gained = log_p.gather(2, window[:, 1:, None])[..., 0].cpu().numpy()
            total -= float(gained[real[:, start : start + 256]].sum())
    return total
