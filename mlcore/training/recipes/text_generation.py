"""text-generation/voices: an AWD-LSTM over eleven voices; and a character-level yardstick on tinyshakespeare.

`--variant voices` (default) trains what ships; with `--init` a bundle learns on, with `--size large` after it has grown
by two layers (`growing`). `--variant shakespeare` trains the same module on the characters of
tinyshakespeare alone, to be compared with published figures; it does not ship. `--variant <voice>` with `--init`
fine-tunes on one voice. Data: see `mlcore.training.voices`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mlcore.errors import InvalidInput
from mlcore.models.lstm_language_model import Config, Model
from mlcore.predictor import Predictor, load_model
from mlcore.subwords import TextTokenizer
from mlcore.tasks.text_generation import VOICES
from mlcore.training import language_card
from mlcore.training import language_evaluation as evaluation
from mlcore.training.growing import grow
from mlcore.training.publish import finish, write_bundle
from mlcore.training.run import Run
from mlcore.training.trainer import Settings, Trainer
from mlcore.training.voices import HALVED, Batch, CarriedLoss, StreamBatches, pieces, texts

logger = logging.getLogger(__name__)

VERSION = 1
MODEL = "lstm-language-model"
YARDSTICK = "shakespeare"
LICENCE = (
    "Weights for research and non-commercial use: trained on public-domain books and, for the voice of film reviews, "
    "on IMDB reviews (Maas et al. 2011). See the card."
)


@dataclass(frozen=True)
class Size:
    """Constants of one size of run."""

    vocab_size: int
    model: dict[str, Any]
    settings: Settings
    rows: int = 64
    steps: tuple[int, ...] = (56, 64, 72)  # tokens of a window
    candidates: int = 0  # pieces of the vocabulary that a training step sums over; 0 takes all
    cache_size: int = 0  # tokens that a text remembers (`mlcore.models.continuous_cache`); training has no cache
    pieces: int = 20_000  # characters of a book that are read in one go; 0 reads whole books
    dev_characters: int = 40_000  # of each voice, to choose the best evaluation
    characters: int = 0  # use only so many of each voice; 0 takes all
    int8: bool = False  # large matrices are stored so


_QUIET: dict[str, Any] = {"token_dropout": 0.0, "embed_dropout": 0.0, "dropout": 0.0, "weight_dropout": 0.0}
SIZES = {
    "tiny": Size(
        vocab_size=400,
        model={"embed_dim": 24, "hidden_dim": 32},
        settings=Settings(steps=8, max_lr=3e-3, evaluate_every=4),
        rows=4,
        candidates=240,
        cache_size=16,
        pieces=1_000,
        dev_characters=300,
        characters=4_000,
    ),
    # Read little more than twice, a text is not learned by heart: no dropout. Short windows at first, for twice the
    # updates; runs that go on have longer ones (see FURTHER). The average of the weights is what ships.
    "base": Size(
        vocab_size=8_000,
        model=_QUIET,
        settings=Settings(
            steps=21_000,
            max_lr=2.5e-3,
            warmup=0.02,
            final_lr=0.02,
            average_from=0.4,
            average_decay=0.99,
            evaluate_every=2_000,
        ),
        steps=(28, 32, 36),
        candidates=2_048,
        cache_size=1_024,
    ),
    "large": Size(
        vocab_size=8_000,
        model={"hidden_dim": 1_024, "num_layers": 3, "dropout": 0.2, "weight_dropout": 0.2},
        settings=Settings(steps=60_000, max_lr=1.5e-3, warmup=0.02, evaluate_every=3_000, weight_decay=0.01),
        candidates=2_048,
        cache_size=1_024,
    ),
}
# characters of one play's worth of text: small, so what keeps it from learning by heart is strong
YARDSTICKS = {
    "tiny": replace(SIZES["tiny"], vocab_size=80, candidates=0, cache_size=0),
    "base": Size(
        vocab_size=100,
        model={
            **{"embed_dim": 256, "hidden_dim": 512, "num_layers": 3},
            **{"embed_dropout": 0.05, "dropout": 0.35, "weight_dropout": 0.3, "token_dropout": 0.0},
        },
        settings=Settings(steps=6_000, max_lr=2e-3, warmup=0.02, evaluate_every=500, weight_decay=0.02),
        rows=32,
        steps=(120, 128, 136),
        pieces=0,
        dev_characters=111_540,
    ),
}
YARDSTICKS["large"] = YARDSTICKS["base"]
# Runs that go on from a bundle (`--init`): longer windows, a little dropout.
FURTHER = {
    "base": replace(
        SIZES["base"],
        model={**_QUIET, "dropout": 0.05},
        settings=Settings(steps=14_000, max_lr=2e-3, warmup=0.025, final_lr=0.01, evaluate_every=1_000),
        steps=(56, 64, 72),
    ),
    # a bundle of `base` with two more layers
    "large": replace(
        SIZES["base"],
        model={**_QUIET, "num_layers": 4, "residual": True, "dropout": 0.1},
        settings=Settings(steps=12_000, max_lr=1.5e-3, warmup=0.025, final_lr=0.01, evaluate_every=1_000),
        steps=(56, 64, 72),
        int8=True,
    ),
    "tiny": replace(SIZES["tiny"], model={**SIZES["tiny"].model, "num_layers": 3, "residual": True}, int8=True),
}
# One voice (`--variant sherlock --init ...`): a few readings of a megabyte or two.
ONE_VOICE = Settings(steps=700, max_lr=3e-4, warmup=0.05, evaluate_every=100)


def _check(run: Run) -> None:
    """InvalidInput for a variant that is none, and for one voice of which nothing is known yet."""
    known = ("voices", YARDSTICK, *VOICES)
    if run.variant not in known:
        raise InvalidInput("variant", f"There is no variant {run.variant!r}. Known: {', '.join(known)}.")
    if run.variant in VOICES and run.init is None:
        raise InvalidInput("variant", f"{run.variant} is fine-tuned: name the bundle that it goes on from with --init.")


def _size(run: Run) -> Size:
    if run.variant == YARDSTICK:
        return YARDSTICKS[run.size]
    size = FURTHER.get(run.size, SIZES[run.size]) if run.init else SIZES[run.size]
    return replace(size, settings=ONE_VOICE) if run.variant in VOICES and run.size != "tiny" else size


def _voices(run: Run) -> tuple[str, ...]:
    return ("tinyshakespeare",) if run.variant == YARDSTICK else tuple(VOICES)


def _books(run: Run, size: Size, tokenizer: TextTokenizer) -> list[tuple[int, NDArray[np.int32]]]:
    """Every book as tokens, in pieces; its end is told behind the last one."""
    chosen = [run.variant] if run.variant in VOICES else _voices(run)
    found = []
    for voice in chosen:
        number = _voices(run).index(voice)
        for text in texts(run.data, voice, "train", limit=size.characters):
            parts = pieces(text, size.pieces)
            for place, part in enumerate(parts):
                ids = [i for line in part.splitlines(keepends=True) for i in tokenizer.encode(line)]
                end = [tokenizer.eos_id] if place == len(parts) - 1 else []
                found.append((number, np.array([*ids, *end], dtype=np.int32)))
    return found


def _held(run: Run, size: Size) -> list[tuple[int, str, float]]:
    """Samples of the held-out texts, each of as much weight as its text has characters."""
    found = []
    for number, voice in enumerate(_voices(run)):
        if run.variant not in VOICES or voice == run.variant:
            text = texts(run.data, voice, "valid", limit=size.characters)[0]
            found.append((number, evaluation.sample(text, size.dev_characters), float(len(text))))
    return found


def _tokenizer(run: Run, size: Size) -> TextTokenizer:
    path = run.folder / "tokenizer.model"
    first = run.first_bundle()
    if first is not None:
        return TextTokenizer(first.read("tokenizer.model"))
    if not (run.resume and path.exists()):
        run.folder.mkdir(parents=True, exist_ok=True)
        lines = (
            line
            for voice in _voices(run)
            for text in texts(run.data, voice, "train", limit=size.characters)
            for line in text.split("\n")
        )
        kind = "char" if run.variant == YARDSTICK else "unigram"
        path.write_bytes(TextTokenizer.train(lines, vocab_size=size.vocab_size, kind=kind).model)
    return TextTokenizer(path.read_bytes())


def train(run: Run) -> Path:
    """The whole recipe; returns the folder of the finished bundle."""
    _check(run)
    size = _size(run)
    tokenizer = _tokenizer(run, size)
    books = _books(run, size, tokenizer)
    logger.info(
        "%d books, %d tokens, vocabulary of %d", len(books), sum(map(len, (b for _, b in books))), tokenizer.vocab_size
    )
    torch.manual_seed(run.seed)
    model = Model(Config(vocab_size=tokenizer.vocab_size, voices=_voices(run), **size.model))
    first = run.first_bundle()
    if first is None or not grow(model, load_model(first)):
        run.load_first(model)
    version = run.version(VERSION)
    halved = _voices(run).index(HALVED) if HALVED in _voices(run) and run.variant != HALVED else None
    batches = StreamBatches(books, rows=size.rows, seed=[run.seed, version], steps=size.steps, halved=halved)
    trainer = Trainer(
        model,
        settings=replace(size.settings, seed=run.seed),
        batches=batches,
        loss=CarriedLoss(size.candidates),  # type: ignore[arg-type]
        evaluate=partial(evaluation.quick_scores, tokenizer=tokenizer, held=_held(run, size)),  # type: ignore[arg-type]
        monitor="score",
        folder=run.folder / "train",
        progress=run.progress("train"),
        keep_first=run.init is not None,
    )
    trainer.fit(resume=run.resume)
    run.record("train", trainer.state.seconds)
    return _publish(run, size, model.eval(), tokenizer)


def _publish(run: Run, size: Size, model: Model, tokenizer: TextTokenizer) -> Path:
    manifest = {
        "task": run.task,
        "variant": run.variant,
        "version": run.version(VERSION),
        "model": MODEL,
        "preprocessing": {"text": "kept exactly"},
        "licence": LICENCE,
    }
    model.config = replace(model.config, cache_size=size.cache_size)
    files = {"tokenizer.model": tokenizer.model}
    int8 = [name for name, value in model.state_dict().items() if value.dim() == 2 and name != "voices.weight"]
    int8 = int8 if size.int8 else []
    draft = write_bundle(run.folder / "draft", model, manifest=manifest, files=files, int8=int8)
    predictor = Predictor(draft)
    metrics = evaluation.measure(predictor, run.data, limit=size.characters)
    if int8:
        held = _held(run, size)
        metrics["rounding"] = {
            name: round(evaluation.quick_scores(some, tokenizer=tokenizer, held=held)["bits"], 4)  # type: ignore[arg-type]
            for name, some in (("float32", model), ("stored", predictor.model))
        }
    if run.variant == YARDSTICK:
        (run.folder / "metrics.json").write_text(json.dumps(metrics))
        write_bundle(run.out, model, manifest=manifest, files={**files, "metrics.json": json.dumps(metrics).encode()})
        return run.out
    first = run.first_bundle()
    known = first.metrics if first and run.variant not in VOICES else {}
    metrics["ngram"] = known.get("ngram") or _ngrams(run, size, model.config.voices)
    yardstick = run.folder.with_name(f"{run.task}-{YARDSTICK}-{run.size}") / "metrics.json"
    if yardstick.exists():
        metrics["shakespeare"] = json.loads(yardstick.read_text())
    elif "shakespeare" in known:
        metrics["shakespeare"] = known["shakespeare"]
    card = language_card.render(run, predictor, metrics, candidates=size.candidates)
    extra = {"metrics.json": json.dumps(metrics, indent=1).encode(), "card.md": card.encode()}
    finish(draft, run.out, model, extra=extra, int8=int8)
    return run.out


def _ngrams(run: Run, size: Size, voices: Sequence[str]) -> dict[str, float]:
    """Bits a character of an n-gram model of each voice, trained on samples: a character model of more is too large."""
    limit = size.characters or 2_000_000
    found = {}
    for voice in voices:
        train = evaluation.sample("".join(texts(run.data, voice, "train")), limit, places=100)
        held = texts(run.data, voice, "valid", limit=size.characters)[0]
        found[voice] = round(evaluation.ngram_bits(train, held), 3)
    return found


evaluate, evaluate_text, table = evaluation.evaluate, evaluation.evaluate_text, evaluation.table


def loss(model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
    """The loss of a first window; label smoothing plays no part in it."""
    return CarriedLoss()(model, batch)  # type: ignore[arg-type]


def toy() -> tuple[Model, dict[str, bytes], Batch]:
    """A tiny untrained model, its bundle files, and a batch of two texts to overfit (for tests)."""
    lines = ["The fog lay thick.", "It was a dark and stormy night."]
    tokenizer = TextTokenizer.train(lines * 30, vocab_size=320)
    torch.manual_seed(1)
    model = Model(Config(tokenizer.vocab_size, tuple(VOICES), embed_dim=192, hidden_dim=64, cache_size=16, **_QUIET))
    with torch.no_grad():
        model.bias[tokenizer.eos_id] = -20.0  # an untrained model ends at any moment
    ids = [tokenizer.encode(line)[:12] for line in lines]
    length = min(map(len, ids))
    batch = {
        "tokens": torch.tensor([row[:length] for row in ids]),
        "voices": torch.tensor([[0] * length, [1] * length]),
        "first": torch.tensor([1]),
    }
    return model, {"tokenizer.model": tokenizer.model}, batch
