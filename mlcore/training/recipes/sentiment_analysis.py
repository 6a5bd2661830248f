"""sentiment-analysis/en: a BiLSTM pre-trained as two language models on reviews and posts, then taught to judge."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlcore import task
from mlcore.errors import InvalidInput
from mlcore.metrics import measured_before
from mlcore.models.lstm_classifier import Config, Model
from mlcore.predictor import Predictor, load_model
from mlcore.text import WordTokenizer
from mlcore.training import corpora, sentiment_card
from mlcore.training import sentiment_evaluation as evaluation
from mlcore.training.corpora import LABELS, NEGATIVE, POSITIVE, Example, Source
from mlcore.training.mixing import Mixing, mix
from mlcore.training.publish import finish, write_bundle
from mlcore.training.run import Run
from mlcore.training.sentiment_batches import Encoded, encode_all, loss, to_batch
from mlcore.training.sentiment_stages import Size, calibrate, dev_scores, finetune, pretrain, with_config
from mlcore.training.trainer import Settings

VERSION = 2
MODEL = "lstm-classifier"
LICENCE = (
    "Weights for research and non-commercial use: trained among others on IMDB reviews, tweets under Twitter's "
    "terms and Financial PhraseBank (CC BY-NC-SA 3.0). See the card."
)

__all__ = ["evaluate", "loss", "table", "toy", "train"]

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


def make_tokenizer(run: Run, size: Size, texts: Sequence[str]) -> WordTokenizer:
    """Train the vocabulary, or take the one of the run that is resumed."""
    path = run.folder / "tokenizer.model"
    if run.resume and path.exists():
        return WordTokenizer(path.read_bytes())
    tokenizer = WordTokenizer.train(texts, vocab_size=size.vocab_size)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tokenizer.model)
    return tokenizer


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
    return WordTokenizer(first.read("tokenizer.model")), with_config(replace(found.config, temperature=1.0), found)


def _read(
    run: Run, size: Size, settings: Settings, model: Model, tokenizer: WordTokenizer, texts: Sequence[str]
) -> Model:
    """The model after it has read all texts as a language model."""
    torch.manual_seed(run.seed)  # for what the language model has beside the classifier
    # one pass over much text under-fits, so the language model drops little; the few labels want more
    light = replace(model.config, token_dropout=0.02, embed_dropout=0.1, dropout=0.1, weight_dropout=0.1)
    reader = with_config(light, model)
    pretrain(run, size, settings, reader, tokenizer, texts)
    return with_config(model.config, reader)


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
    first = run.first_bundle()
    mixing = None if first is None else mix(model, load_model(first).state_dict(), partial(dev_scores, dev_encoded))
    model = calibrate(model, dev_encoded)
    return publish(run, model, tokenizer, sources, dev_encoded, adversary=size.adversary, mixing=mixing)


def publish(
    run: Run,
    model: Model,
    tokenizer: WordTokenizer,
    sources: list[Source],
    dev: dict[str, list[Encoded]],
    *,
    adversary: float,
    mixing: Mixing | None,
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
    card = sentiment_card.render(run, predictor, metrics, sources, adversary=adversary, mixing=mixing)
    extra = {"metrics.json": json.dumps(metrics, indent=1).encode(), "card.md": card.encode()}
    finish(draft, run.out, model, extra=extra)
    return run.out


def evaluate(predictor: Predictor, data: Path, split: str) -> dict[str, Any]:
    """The card's scores, measured again on a bundle."""
    readers = {"dev": corpora.dev_sets, "test": corpora.test_sets}
    if split not in readers:
        raise InvalidInput("split", f"There is no split {split!r}. Known: {', '.join(readers)}.")
    metrics = evaluation.measure(predictor, readers[split](data), split)
    return metrics | measured_before(predictor.bundle.metrics, split)


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
