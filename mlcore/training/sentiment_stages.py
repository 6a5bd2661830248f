"""The stages of the sentiment recipe: reading as two language models, judging, calibration."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mlcore.models.lstm_classifier import Config, Model
from mlcore.text import WordTokenizer
from mlcore.training.corpora import LABELS
from mlcore.training.data import bucket_batches
from mlcore.training.language_model import BidirectionalLM, StreamBatches
from mlcore.training.run import Run
from mlcore.training.sentiment_batches import Encoded, ExampleBatches, encode, loss, masked_logits, to_batch
from mlcore.training.sentiment_evaluation import score
from mlcore.training.trainer import Settings, Trainer

logger = logging.getLogger(__name__)

DEV_TOKENS = 40_000  # tokens held out of the unlabelled stream to watch the language model


@dataclass(frozen=True)
class Size:
    """Constants of one size of run."""

    vocab_size: int
    model: dict[str, float]
    pretrain: Settings | None  # None reads nothing
    finetune: Settings
    rows: int = 32  # of a language-model batch
    steps: int = 128  # tokens of such a row
    candidates: int = 4096  # words of the vocabulary told apart at a step
    tokens_per_batch: int = 8192
    adversary: float = 0.0  # see `mlcore.training.sentiment_batches.loss`; a step takes nearly twice as long
    texts: int = 0  # use only so many of each set; 0 takes all


def dev_logits(model: Model, examples: Sequence[Encoded]) -> NDArray[np.float32]:
    """Logits (N, 3) of whole texts, in order, computed in batches of like length."""
    logits = np.zeros((len(examples), len(LABELS)), dtype=np.float32)
    batches = bucket_batches(
        [len(e.tokens) for e in examples], tokens_per_batch=16_384, max_rows=256, generator=np.random.default_rng(0)
    )
    with torch.inference_mode():
        for indices in batches:
            batch = to_batch([examples[i] for i in indices])
            logits[indices] = model(batch["tokens"], batch["lengths"]).numpy()
    return logits


def dev_scores(dev: dict[str, list[Encoded]], model: nn.Module) -> dict[str, float]:
    """Score of each dev set, and their mean."""
    scores = {
        name: score(dev_logits(model, rows), [row.example for row in rows])  # type: ignore[arg-type]
        for name, rows in dev.items()
    }
    return scores | {"mean": sum(scores.values()) / len(scores)}


def with_config(config: Config, model: Model) -> Model:
    """The same weights under other settings."""
    other = Model(config)
    other.load_state_dict(model.state_dict())
    return other


def pretrain(
    run: Run, size: Size, settings: Settings, model: Model, tokenizer: WordTokenizer, texts: Sequence[str]
) -> None:
    """Teach the encoder English: both directions name their next token."""
    order = np.random.default_rng(run.seed).permutation(len(texts))
    stream = np.concatenate([encode(tokenizer, texts[i])[:-1] for i in order])
    held_out = min(DEV_TOKENS, len(stream) // 10)
    dev = torch.from_numpy(stream[: held_out - held_out % size.steps].reshape(-1, size.steps).astype(np.int64))
    stream = stream[held_out:]
    logger.info("language model: %d tokens, vocabulary of %d", len(stream), tokenizer.vocab_size)
    language_model = BidirectionalLM(model, candidates=size.candidates)

    def evaluate(module: nn.Module) -> dict[str, float]:
        losses = [module.full_loss(rows) for rows in dev.split(32)]  # type: ignore[operator]
        return {"minus_nats": -sum(losses) / len(losses)}

    trainer = Trainer(
        language_model,
        settings=replace(settings, seed=run.seed),
        batches=StreamBatches(stream, rows=size.rows, steps=size.steps, seed=run.seed),
        loss=lambda module, tokens: module(tokens),
        evaluate=evaluate,
        monitor="minus_nats",
        folder=run.folder / "pretrain",
        progress=run.progress("pre-training"),
    )
    trainer.fit(resume=run.resume)
    run.record("pretrain", trainer.state.seconds)


def finetune(
    run: Run, size: Size, model: Model, sources: list[tuple[float, list[Encoded]]], dev: dict[str, list[Encoded]]
) -> Model:
    """Teach the encoder to judge: the head alone first, then everything, the lower layers more slowly."""
    settings = replace(size.finetune, seed=run.seed)
    frozen = settings.steps // 30
    lower = [*model.embedding.parameters(), *model.encoder.parameters()]
    upper = [*model.attention.parameters(), *model.head.parameters()]
    trainer = Trainer(
        model,
        settings=settings,
        batches=ExampleBatches(sources, tokens_per_batch=size.tokens_per_batch, seed=run.seed),
        loss=partial(loss, adversary=size.adversary),
        evaluate=partial(dev_scores, dev),
        monitor="mean",
        folder=run.folder / "finetune",
        groups=[(upper, 1.0, 0), (lower, 0.6, frozen)],
        progress=run.progress("fine-tuning"),
    )
    trainer.fit(resume=run.resume)
    run.record("finetune", trainer.state.seconds)
    return model


def calibrate(model: Model, dev: dict[str, list[Encoded]]) -> Model:
    """The same weights with the temperature that makes dev probabilities honest (Guo et al. 2017)."""
    logits = torch.from_numpy(np.concatenate([dev_logits(model, rows) for rows in dev.values()]))
    examples = [row.example for rows in dev.values() for row in rows]
    logits = masked_logits(logits, torch.tensor([e.binary for e in examples]))
    targets = torch.tensor([e.target for e in examples])
    grid = torch.linspace(0.5, 3.0, 126)
    losses = [float(nn.functional.cross_entropy(logits / temperature, targets)) for temperature in grid]
    temperature = float(grid[int(np.argmin(losses))])
    return with_config(replace(model.config, temperature=round(temperature, 3)), model).eval()
