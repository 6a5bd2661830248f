"""text-generation/voices: an AWD-LSTM over eleven voices; and a character-level yardstick on tinyshakespeare.

`--variant voices` (default) trains what ships. `--variant shakespeare` trains the same module on the characters of
tinyshakespeare alone, to be compared with published figures; it does not ship. `--variant <voice>` with `--init`
fine-tunes on one voice. Data: see `mlcore.training.voices`.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mlcore.models.lstm_language_model import Config, Model
from mlcore.predictor import Predictor
from mlcore.subwords import TextTokenizer
from mlcore.tasks.text_generation import VOICES
from mlcore.training import language_card
from mlcore.training import language_evaluation as evaluation
from mlcore.training.publish import finish, write_bundle
from mlcore.training.run import Run
from mlcore.training.trainer import Settings, Trainer
from mlcore.training.voices import Batch, CarriedLoss, StreamBatches, texts

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
    dev_characters: int = 20_000  # of each voice, to choose the best evaluation
    characters: int = 0  # use only so many of each voice; 0 takes all


SIZES = {
    "tiny": Size(
        vocab_size=400,
        model={"embed_dim": 24, "hidden_dim": 32},
        settings=Settings(steps=8, max_lr=3e-3, evaluate_every=4),
        rows=4,
        dev_characters=300,
        characters=4_000,
    ),
    "base": Size(
        vocab_size=8_000,
        model={},
        settings=Settings(steps=24_000, max_lr=2e-3, warmup=0.02, evaluate_every=1_500, weight_decay=0.01),
    ),
    "large": Size(
        vocab_size=8_000,
        model={"hidden_dim": 1_024, "num_layers": 3, "dropout": 0.2, "weight_dropout": 0.2},
        settings=Settings(steps=60_000, max_lr=1.5e-3, warmup=0.02, evaluate_every=3_000, weight_decay=0.01),
    ),
}
# characters of one play's worth of text: small, so what keeps it from learning by heart is strong
YARDSTICKS = {
    "tiny": replace(SIZES["tiny"], vocab_size=80),
    "base": Size(
        vocab_size=100,
        model={
            **{"embed_dim": 128, "hidden_dim": 512, "num_layers": 3},
            **{"embed_dropout": 0.05, "dropout": 0.4, "weight_dropout": 0.4, "token_dropout": 0.0},
        },
        settings=Settings(steps=6_000, max_lr=2e-3, warmup=0.02, evaluate_every=500, weight_decay=0.02),
    ),
}
YARDSTICKS["large"] = YARDSTICKS["base"]


def _voices(run: Run) -> tuple[str, ...]:
    return ("tinyshakespeare",) if run.variant == YARDSTICK else tuple(VOICES)


def _books(run: Run, size: Size, tokenizer: TextTokenizer) -> list[tuple[int, NDArray[np.int32]]]:
    """Every book as tokens between two ends of text."""
    chosen = [run.variant] if run.variant in VOICES else _voices(run)
    found = []
    for voice in chosen:
        number = _voices(run).index(voice)
        for text in texts(run.data, voice, "train", limit=size.characters):
            ids = [i for line in text.splitlines(keepends=True) for i in tokenizer.encode(line)]
            found.append((number, np.array([*ids, tokenizer.eos_id], dtype=np.int32)))
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
    size = (YARDSTICKS if run.variant == YARDSTICK else SIZES)[run.size]
    tokenizer = _tokenizer(run, size)
    books = _books(run, size, tokenizer)
    logger.info(
        "%d books, %d tokens, vocabulary of %d", len(books), sum(map(len, (b for _, b in books))), tokenizer.vocab_size
    )
    torch.manual_seed(run.seed)
    model = Model(Config(vocab_size=tokenizer.vocab_size, voices=_voices(run), **size.model))
    run.load_first(model)
    held = [
        (number, texts(run.data, voice, "valid", limit=size.dev_characters)[0])
        for number, voice in enumerate(_voices(run))
        if run.variant not in VOICES or voice == run.variant
    ]
    trainer = Trainer(
        model,
        settings=replace(size.settings, seed=run.seed),
        batches=StreamBatches(books, rows=size.rows, seed=run.seed),
        loss=CarriedLoss(),  # type: ignore[arg-type]
        evaluate=partial(evaluation.quick_scores, tokenizer=tokenizer, held=held),  # type: ignore[arg-type]
        monitor="score",
        folder=run.folder / "train",
        progress=run.progress("train"),
    )
    trainer.fit(resume=run.resume)
    run.record("train", trainer.state.seconds)
    return _publish(run, size, model.eval(), tokenizer)


def _publish(run: Run, size: Size, model: Model, tokenizer: TextTokenizer) -> Path:
    manifest = {
        "task": run.task,
        "variant": run.variant,
        "version": VERSION,
        "model": MODEL,
        "preprocessing": {"text": "kept exactly"},
        "licence": LICENCE,
    }
    files = {"tokenizer.model": tokenizer.model}
    draft = write_bundle(run.folder / "draft", model, manifest=manifest, files=files)
    predictor = Predictor(draft)
    metrics = evaluation.measure(predictor, run.data, limit=size.characters)
    if run.variant == YARDSTICK:
        (run.folder / "metrics.json").write_text(json.dumps(metrics))
        write_bundle(run.out, model, manifest=manifest, files={**files, "metrics.json": json.dumps(metrics).encode()})
        return run.out
    limit = size.characters or 2_000_000  # a character model of more does not fit into memory
    metrics["ngram"] = {
        voice: round(
            evaluation.ngram_bits(
                "".join(texts(run.data, voice, "train"))[:limit],
                texts(run.data, voice, "valid", limit=size.characters)[0],
            ),
            3,
        )
        for voice in model.config.voices
    }
    yardstick = run.folder.with_name(f"{run.task}-{YARDSTICK}-{run.size}") / "metrics.json"
    if yardstick.exists():
        metrics["shakespeare"] = json.loads(yardstick.read_text())
    card = language_card.render(run, predictor, metrics)
    extra = {"metrics.json": json.dumps(metrics, indent=1).encode(), "card.md": card.encode()}
    finish(draft, run.out, model, extra=extra)
    return run.out


evaluate, evaluate_text, table = evaluation.evaluate, evaluation.evaluate_text, evaluation.table


def loss(model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
    """The loss of a first window; label smoothing plays no part in it."""
    return CarriedLoss()(model, batch)  # type: ignore[arg-type]


def toy() -> tuple[Model, dict[str, bytes], Batch]:
    """A tiny untrained model, its bundle files, and a batch of two texts to overfit (for tests)."""
    lines = ["The fog lay thick.", "It was a dark and stormy night."]
    tokenizer = TextTokenizer.train(lines * 30, vocab_size=320)
    torch.manual_seed(1)
    quiet: dict[str, Any] = {"token_dropout": 0.0, "embed_dropout": 0.0, "dropout": 0.0, "weight_dropout": 0.0}
    model = Model(Config(tokenizer.vocab_size, tuple(VOICES), embed_dim=192, hidden_dim=64, **quiet))
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
