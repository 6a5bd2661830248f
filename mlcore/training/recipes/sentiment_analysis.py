"""sentiment-analysis/en: a BiLSTM pre-trained as two language models on reviews and posts, then taught to judge."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mlcore import task
from mlcore.errors import InvalidInput
from mlcore.models.lstm_classifier import Config, Model
from mlcore.predictor import Predictor, load_model
from mlcore.text import WordTokenizer
from mlcore.training import corpora, sentiment_card
from mlcore.training import sentiment_evaluation as evaluation
from mlcore.training.corpora import LABELS, NEGATIVE, POSITIVE, Example, Source
from mlcore.training.data import bucket_batches
from mlcore.training.language_model import BidirectionalLM, StreamBatches
from mlcore.training.publish import finish, write_bundle
from mlcore.training.run import Run
from mlcore.training.sentiment_batches import (
    Encoded,
    ExampleBatches,
    encode,
    encode_all,
    loss,
    masked_logits,
    to_batch,
)
from mlcore.training.sentiment_evaluation import score
from mlcore.training.trainer import Settings, Trainer

logger = logging.getLogger(__name__)

VERSION = 2
MODEL = "lstm-classifier"
LICENCE = (
    "Weights for research and non-commercial use: trained among others on IMDB reviews, tweets under Twitter's "
    "terms and Financial PhraseBank (CC BY-NC-SA 3.0). See the card."
)
SHARES = (1.0, 0.7, 0.6, 0.5, 0.4, 0.3)  # of a run's own weights, beside those that it began with
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
    adversary: float = 0.0  # see `mlcore.training.sentiment_batches.loss`; a step takes more than twice as long
    texts: int = 0  # use only so many of each set; 0 takes all


SIZES = {
    "tiny": Size(
        vocab_size=500,
        model={"embed_dim": 32, "hidden_dim": 32, "head_dim": 16, "weight_dropout": 0.0},
        pretrain=Settings(steps=20, max_lr=3e-3, evaluate_every=10),
        finetune=Settings(steps=60, max_lr=3e-3, evaluate_every=20),
        candidates=256,
        tokens_per_batch=2048,
        texts=200,
    ),
    "base": Size(
        vocab_size=16_000,
        model={},
        pretrain=Settings(steps=7_500, max_lr=2.5e-3, evaluate_every=1_000),
        finetune=Settings(steps=6_000, max_lr=1e-3, evaluate_every=500, weight_decay=0.02),
    ),
    "large": Size(
        vocab_size=16_000,
        model={"embed_dim": 256, "hidden_dim": 512, "num_layers": 2},
        pretrain=Settings(steps=40_000, max_lr=2e-3, evaluate_every=2_000),
        finetune=Settings(steps=12_000, max_lr=1e-3, evaluate_every=500, weight_decay=0.02, patience=6),
        rows=64,
    ),
}
# Runs that go on from a bundle (`--init`): base judges anew, which is what new labels want; large reads on before.
FURTHER = {
    "tiny": replace(SIZES["tiny"], adversary=0.3),
    "base": replace(
        SIZES["base"],
        pretrain=None,
        finetune=Settings(steps=3_000, max_lr=5e-4, evaluate_every=500, weight_decay=0.02),
        adversary=0.1,
    ),
    "large": replace(
        SIZES["base"],
        pretrain=Settings(steps=2_800, max_lr=2e-3, warmup=0.05, evaluate_every=600),
        finetune=Settings(steps=1_700, max_lr=1e-3, evaluate_every=340, weight_decay=0.02),
        rows=64,
        adversary=0.1,
    ),
}


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


def _evaluate(dev: dict[str, list[Encoded]], model: nn.Module) -> dict[str, float]:
    scores = {
        name: score(dev_logits(model, rows), [row.example for row in rows])  # type: ignore[arg-type]
        for name, rows in dev.items()
    }
    return scores | {"mean": sum(scores.values()) / len(scores)}


def make_tokenizer(run: Run, size: Size, texts: Sequence[str]) -> WordTokenizer:
    """Train the vocabulary, or take the one of the run that is resumed."""
    path = run.folder / "tokenizer.model"
    if run.resume and path.exists():
        return WordTokenizer(path.read_bytes())
    tokenizer = WordTokenizer.train(texts, vocab_size=size.vocab_size)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tokenizer.model)
    return tokenizer


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
        evaluate=partial(_evaluate, dev),
        monitor="mean",
        folder=run.folder / "finetune",
        groups=[(upper, 1.0, 0), (lower, 0.6, frozen)],
        progress=run.progress("fine-tuning"),
        keep_first=run.init is not None,
    )
    trainer.fit(resume=run.resume)
    run.record("finetune", trainer.state.seconds)
    return model


def _limited(sources: list[Source], limit: int) -> list[Source]:
    return [replace(source, examples=source.examples[:limit]) for source in sources] if limit else sources


def _begin(run: Run, size: Size, texts: Sequence[str]) -> tuple[WordTokenizer, Model]:
    """A fresh vocabulary and model, or those of the bundle that the run goes on from."""
    first = run.first_bundle()
    if first is None:
        tokenizer = make_tokenizer(run, size, texts)
        torch.manual_seed(run.seed)
        return tokenizer, Model(Config(vocab_size=tokenizer.vocab_size, labels=LABELS, **size.model))  # type: ignore[arg-type]
    found = load_model(first)
    assert isinstance(found, Model)
    return WordTokenizer(first.read("tokenizer.model")), _as(replace(found.config, temperature=1.0), found)


def _as(config: Config, model: Model) -> Model:
    """The same weights under other settings."""
    other = Model(config)
    other.load_state_dict(model.state_dict())
    return other


def _read(
    run: Run, size: Size, settings: Settings, model: Model, tokenizer: WordTokenizer, texts: Sequence[str]
) -> Model:
    """The model after it has read all texts as a language model."""
    torch.manual_seed(run.seed)  # for what the language model has beside the classifier
    # one pass over much text under-fits, so the language model drops little; the few labels want more
    light = replace(model.config, token_dropout=0.02, embed_dropout=0.1, dropout=0.1, weight_dropout=0.1)
    reader = _as(light, model)
    pretrain(run, size, settings, reader, tokenizer, texts)
    return _as(model.config, reader)


def train(run: Run) -> Path:
    """The whole recipe; returns the folder of the finished bundle."""
    size = FURTHER[run.size] if run.init else SIZES[run.size]
    sources = _limited(corpora.training_sources(run.data), size.texts)
    texts = corpora.unlabelled_texts(run.data) if size.pretrain else []
    texts = texts[: 5 * size.texts] if size.texts else texts
    tokenizer, model = _begin(run, size, texts)
    if size.pretrain:
        model = _read(run, size, size.pretrain, model, tokenizer, texts)
    dev = corpora.dev_sets(run.data)
    dev_encoded = {name: encode_all(tokenizer, rows[: size.texts or None]) for name, rows in dev.items()}
    encoded = [(source.share, encode_all(tokenizer, source.examples)) for source in sources]
    finetune(run, size, model, encoded, dev_encoded)
    if (first := run.first_bundle()) is not None:
        mix(model, load_model(first).state_dict(), dev_encoded)
    model = calibrate(model, dev_encoded)
    return publish(run, model, tokenizer, sources, dev_encoded, adversary=size.adversary)


def mix(model: Model, first: Mapping[str, Tensor], dev: dict[str, list[Encoded]]) -> float:
    """Give a model the weights between those that it began with and its own which dev scores best; returns its share.

    What a run forgets of what it began with comes back that way (Wortsman et al. 2022,
    https://arxiv.org/abs/2109.01903).
    """
    own = {name: value.clone() for name, value in model.state_dict().items()}

    def scored(share: float) -> float:
        model.load_state_dict({name: first[name].lerp(value, share) for name, value in own.items()})
        scores = _evaluate(dev, model.eval())
        logger.info("%.1f of its own weights: %s", share, {name: round(score, 4) for name, score in scores.items()})
        return scores["mean"]

    best = max(SHARES, key=scored)
    model.load_state_dict({name: first[name].lerp(value, best) for name, value in own.items()})
    return best


def calibrate(model: Model, dev: dict[str, list[Encoded]]) -> Model:
    """The same weights with the temperature that makes dev probabilities honest (Guo et al. 2017)."""
    logits = torch.from_numpy(np.concatenate([dev_logits(model, rows) for rows in dev.values()]))
    examples = [row.example for rows in dev.values() for row in rows]
    logits = masked_logits(logits, torch.tensor([e.binary for e in examples]))
    targets = torch.tensor([e.target for e in examples])
    grid = torch.linspace(0.5, 3.0, 126)
    losses = [float(nn.functional.cross_entropy(logits / temperature, targets)) for temperature in grid]
    temperature = float(grid[int(np.argmin(losses))])
    return _as(replace(model.config, temperature=round(temperature, 3)), model).eval()


def publish(
    run: Run,
    model: Model,
    tokenizer: WordTokenizer,
    sources: list[Source],
    dev: dict[str, list[Encoded]],
    *,
    adversary: float,
) -> Path:
    """Write the bundle, with scores measured on the weights that ship."""
    manifest = {
        "task": run.task,
        "variant": run.variant,
        "version": run.version(VERSION),
        "model": MODEL,
        "preprocessing": {"words": "penn", "case": "folded", "wrap": "eos"},
        "licence": LICENCE,
    }
    files = {"tokenizer.model": tokenizer.model}
    draft = write_bundle(run.folder / "draft", model, manifest=manifest, files=files)
    predictor = Predictor(draft)
    metrics = evaluation.measure(predictor, {name: [e.example for e in rows] for name, rows in dev.items()}, "dev")
    metrics["baseline"] = evaluation.baselines(sources, {name: [e.example for e in rows] for name, rows in dev.items()})
    card = sentiment_card.render(run, predictor, metrics, sources, adversary=adversary)
    extra = {"metrics.json": json.dumps(metrics, indent=1).encode(), "card.md": card.encode()}
    finish(draft, run.out, model, extra=extra)
    return run.out


def evaluate(predictor: Predictor, data: Path, split: str) -> dict[str, Any]:
    """The card's scores, measured again on a bundle."""
    readers = {"dev": corpora.dev_sets, "test": corpora.test_sets}
    if split not in readers:
        raise InvalidInput("split", f"There is no split {split!r}. Known: {', '.join(readers)}.")
    metrics = evaluation.measure(predictor, readers[split](data), split)
    return metrics | {"baseline": predictor.bundle.metrics.get("baseline", {})}


table = evaluation.table


def toy() -> tuple[Model, dict[str, bytes], dict[str, Tensor]]:
    """A tiny untrained model over the demo texts, its bundle files, and a batch of two to overfit (for tests)."""
    texts = [str(example.inputs["text"]) for example in task.get("sentiment-analysis").examples]
    tokenizer = WordTokenizer.train(texts * 5, vocab_size=120)
    torch.manual_seed(1)
    sizes: dict[str, Any] = {"embed_dim": 24, "hidden_dim": 16, "head_dim": 16}
    dropouts: dict[str, Any] = dict.fromkeys(
        ("token_dropout", "embed_dropout", "dropout", "weight_dropout", "head_dropout"), 0.0
    )
    model = Model(Config(vocab_size=tokenizer.vocab_size, labels=LABELS, **sizes, **dropouts))
    examples = [Example(texts[0], POSITIVE, True), Example(texts[-1], NEGATIVE, False)]
    return model, {"tokenizer.model": tokenizer.model}, to_batch(encode_all(tokenizer, examples))
