"""translation/multi: one BiLSTM-LSTM model with attention for six directions, trained in two stages.

1. `general`: all sets at their shares, both directions of every pair; small batches first.
2. `short`: mostly what people type: captions, everyday sentences, dialogue.

With `--init` the bundle may first translate English captions, of which both stages read the surest half
(`own_translations`), and the weights that ship lie between its own and the run's (`mixing`).

Data: see `mlcore.training.parallel_text`; `captions_extra/` (`mlcore.training.photos`), where it lies there.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlcore.errors import InvalidInput
from mlcore.models.attention_translator import Config, Model
from mlcore.predictor import Predictor, load_model
from mlcore.subwords import SubwordTokenizer
from mlcore.training import translation_card
from mlcore.training import translation_evaluation as evaluation
from mlcore.training.mixing import mix
from mlcore.training.own_translations import captions, own_pairs
from mlcore.training.parallel_text import LANGUAGES, Pair, held_out, training_pairs
from mlcore.training.publish import finish, write_bundle
from mlcore.training.run import Run
from mlcore.training.trainer import Settings, Trainer
from mlcore.training.translation import Batch, PairBatches, translation_loss

logger = logging.getLogger(__name__)

VERSION = 1
MODEL = "attention-translator"
LICENCE = (
    "Weights for research and non-commercial use: trained among others on Multi30k, WMT news and dialogues under "
    "non-commercial terms. See the card."
)
_LSTMS = ("encoder.ahead.0", "encoder.ahead.1", "encoder.back.0", "encoder.back.1", "decoder.words", "decoder.seen")
INT8 = (
    "embedding.weight",
    *(f"{lstm}.weight_{kind}_l0" for lstm in _LSTMS for kind in ("ih", "hh")),
    *(f"decoder.{name}.weight" for name in ("query", "key", "value", "first", "out")),
)
# How often each set is read in an epoch of `general`, times a size's own factor. Captions count most: they are few,
# and the register is what people type; Wiktionary's words and sets that are noisy or far from that count less.
GENERAL: Mapping[str, float] = {
    **{"multi30k": 1.0, "tatoeba": 0.25, "news": 0.14, "bcontrast": 0.25, "xdailydialog": 0.1, "wmt15_sample": 0.08},
    **{"europarl": 0.1, "mlqe-pe": 0.1, "pud": 0.25, "xquad": 0.25, "tico19": 0.15, "pydocs": 0.05},
    "wiktionary_lexicon": 0.04,
    "own_captions": 0.35,
    "feedback": 1.0,  # what people corrected on a server, where its export lies in the data folder
}
SHORT: Mapping[str, float] = {
    **{"multi30k": 1.0, "tatoeba": 0.25, "bcontrast": 0.25, "xdailydialog": 0.05, "news": 0.03, "pud": 0.1},
    **{"xquad": 0.1, "europarl": 0.02, "wiktionary_lexicon": 0.01, "own_captions": 0.2, "feedback": 1.0},
}


@dataclass(frozen=True)
class Size:
    """Constants of one size of run."""

    model: dict[str, Any]
    vocab_size: int
    general: Settings
    short: Settings
    growth: tuple[int, ...]  # tokens of a batch, epoch by epoch
    dev_sentences: int = 150  # of each direction, to choose the best evaluation
    mixed_sentences: int = 500  # of each direction, to choose between weights
    pairs: int = 0  # use only so many of each set; 0 takes all
    factors: Mapping[str, float] = field(default_factory=dict)  # of the shares of some sets
    own_captions: int = 0  # that the bundle a run goes on from translates itself, see `own_translations`


SIZES = {
    "tiny": Size(
        model={"embed_dim": 16, "encoder_dim": 8, "hidden_dim": 16, "heads": 2, "beam_size": 2},
        vocab_size=700,
        general=Settings(steps=6, max_lr=2e-3, evaluate_every=3),
        short=Settings(steps=4, max_lr=1e-3, evaluate_every=2),
        growth=(400,),
        dev_sentences=4,
        mixed_sentences=4,
        pairs=60,
    ),
    "base": Size(
        model={"embed_dim": 320, "encoder_dim": 256, "hidden_dim": 512},
        vocab_size=10_000,
        general=Settings(steps=10_500, max_lr=1.2e-3, warmup=0.04, final_lr=0.1, evaluate_every=1_000),
        short=Settings(steps=3_200, max_lr=5e-4, warmup=0.02, evaluate_every=500),
        growth=(1_500,),
    ),
    "large": Size(
        model={"embed_dim": 384, "encoder_dim": 320, "hidden_dim": 640, "dropout": 0.25},
        vocab_size=12_000,
        general=Settings(steps=60_000, max_lr=1e-3, warmup=0.03, final_lr=0.1, evaluate_every=2_000),
        short=Settings(steps=10_000, max_lr=3e-4, warmup=0.02, evaluate_every=1_000),
        growth=(1_500, 1_500, 2_500, 2_500, 4_500, 4_500, 4_500, 4_500, 6_000),
    ),
}
# Runs that go on from a bundle (`--init`): a lower rate and larger batches than from nothing, less dropout (so few
# readings teach nothing by heart), and more of Tatoeba and of single words beside captions: a first run reads pairs of
# Tatoeba 0.65 times, those of captions 2.6 times. Own translations (60,000 in the run of @3) it can do without.
FURTHER = {
    "base": replace(
        SIZES["base"],
        model={**SIZES["base"].model, "dropout": 0.1},
        general=Settings(steps=5_500, max_lr=5e-4, warmup=0.04, final_lr=0.1, evaluate_every=1_000),
        short=Settings(steps=1_500, max_lr=2e-4, warmup=0.04, evaluate_every=500),
        growth=(2_000,),
        factors={"multi30k": 3.0, "tatoeba": 3.2, "wiktionary_lexicon": 4.0},
    ),
    "tiny": replace(SIZES["tiny"], own_captions=12),
}
BEAM = 2  # of own translations


def _size(run: Run) -> Size:
    return FURTHER.get(run.size, SIZES[run.size]) if run.init else SIZES[run.size]


def _corpora(run: Run, size: Size) -> dict[str, list[Pair]]:
    """All sets; read once a run, for taking a million sentences apart costs minutes."""
    path = run.folder / "pairs.tsv"
    if not (run.resume and path.exists()):
        run.folder.mkdir(parents=True, exist_ok=True)
        without = held_out(run.data)
        with path.with_suffix(".part").open("w", encoding="utf-8") as file:
            for name in GENERAL:
                if name == "own_captions":
                    pairs = _own_captions(run, size, without)
                else:
                    pairs = training_pairs(run.data, name, seed=run.seed, limit=size.pairs, without=without)
                for pair in pairs:
                    file.write(f"{name}\t{pair.language}\t{pair.english}\t{pair.other}\n")
        path.with_suffix(".part").replace(path)
    corpora: dict[str, list[Pair]] = {name: [] for name in GENERAL}
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            name, language, english, other = line.rstrip("\n").split("\t")
            corpora[name].append(Pair(language, english, other))
    if not any(corpora.values()):
        raise InvalidInput("data", f"There are no sentence pairs to train on in {run.data}/translation.")
    return corpora


def _own_captions(run: Run, size: Size, without: frozenset[str]) -> list[Pair]:
    """Captions with translations by the bundle that the run goes on from; none where it begins with nothing."""
    first = run.first_bundle()
    if first is None or not size.own_captions:
        return []
    texts = captions(run.data, number=size.own_captions, seed=run.seed, without=without)
    model, tokenizer = load_model(first), SubwordTokenizer(first.read("tokenizer.model"))
    assert isinstance(model, Model)
    began = time.monotonic()
    pairs = list(own_pairs(model, tokenizer, texts, beam_size=BEAM))
    run.record("own captions", time.monotonic() - began)
    return pairs


def _tokenizer(run: Run, size: Size, corpora: Mapping[str, Sequence[Pair]]) -> SubwordTokenizer:
    path = run.folder / "tokenizer.model"
    first = run.first_bundle()
    if first is not None:
        return SubwordTokenizer(first.read("tokenizer.model"))
    if not (run.resume and path.exists()):
        texts = (side for pairs in corpora.values() for pair in pairs for side in (pair.english, pair.other))
        tokenizer = SubwordTokenizer.train(texts, languages=LANGUAGES, vocab_size=size.vocab_size)
        path.write_bytes(tokenizer.model)
    return SubwordTokenizer(path.read_bytes())


def _config(size: Size, tokenizer: SubwordTokenizer) -> Config:
    return Config(
        vocab_size=tokenizer.vocab_size,
        languages=LANGUAGES,
        language_ids=tuple(map(tokenizer.language_id, LANGUAGES)),
        mark_ids=tuple(tokenizer.mark_ids),
        **size.model,
    )


def _stage(
    run: Run,
    name: str,
    size: Size,
    model: Model,
    tokenizer: SubwordTokenizer,
    corpora: Mapping[str, Sequence[Pair]],
    shares: Mapping[str, float],
) -> None:
    """Train the model through one stage and note its time."""
    settings: Settings = getattr(size, name)
    growth = size.growth if name == "general" else size.growth[-1:]
    read = {set_name: share * size.factors.get(set_name, 1.0) for set_name, share in shares.items()}
    trainer = Trainer(
        model,
        settings=replace(settings, seed=run.seed),
        batches=PairBatches(
            corpora, read, tokenizer, tokens_per_batch=growth, seed=run.seed, keep=run.folder / f"pieces-{name}"
        ),
        loss=translation_loss,  # type: ignore[arg-type]
        evaluate=partial(evaluation.quick_scores, tokenizer=tokenizer, data=run.data, sentences=size.dev_sentences),  # type: ignore[arg-type]
        monitor="mean",
        folder=run.folder / name,
        progress=run.progress(name),
        keep_first=name == "short",
    )
    trainer.fit(resume=run.resume)
    run.record(name, trainer.state.seconds)


def train(run: Run) -> Path:
    """The whole recipe; returns the folder of the finished bundle."""
    size = _size(run)
    corpora = _corpora(run, size)
    logger.info("%s pairs", {name: len(pairs) for name, pairs in corpora.items()})
    tokenizer = _tokenizer(run, size, corpora)
    torch.manual_seed(run.seed)
    model = Model(_config(size, tokenizer))
    run.load_first(model)
    _stage(run, "general", size, model, tokenizer, corpora, GENERAL)
    _stage(run, "short", size, model, tokenizer, corpora, SHORT)
    first = run.first_bundle()
    quick = partial(evaluation.quick_scores, tokenizer=tokenizer, data=run.data, sentences=size.mixed_sentences)
    mixing = None if first is None else mix(model, load_model(first).state_dict(), quick)  # type: ignore[arg-type]
    manifest = {
        "task": run.task,
        "variant": run.variant,
        "version": run.version(VERSION),
        "model": MODEL,
        "preprocessing": {"normalisation": "nmt_nfkc", "marks": len(tokenizer.mark_ids)},
        "licence": LICENCE,
    }
    draft = write_bundle(run.folder / "draft", model.eval(), manifest=manifest, files=_files(tokenizer), int8=INT8)
    predictor = Predictor(draft)
    metrics = evaluation.measure(predictor, run.data, "dev", limit=size.pairs)
    metrics["rounding"] = {
        name: evaluation.greedy(some, tokenizer, run.data, limit=size.pairs)
        for name, some in (("float32", model), ("stored", predictor.model))
    }
    metrics["baseline"] = evaluation.baseline(run.data, limit=size.pairs)
    card = translation_card.render(
        run, predictor, metrics, {name: len(pairs) for name, pairs in corpora.items()}, mixing
    )
    extra = {"metrics.json": json.dumps(metrics, indent=1).encode(), "card.md": card.encode()}
    finish(draft, run.out, model, extra=extra, int8=INT8)
    return run.out


def _files(tokenizer: SubwordTokenizer) -> dict[str, bytes]:
    return {"tokenizer.model": tokenizer.model}


evaluate, table = evaluation.evaluate, evaluation.table


def loss(model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> Tensor:
    """The loss of both stages."""
    return translation_loss(model, batch, label_smoothing=label_smoothing)  # type: ignore[arg-type]


def toy() -> tuple[Model, dict[str, bytes], Batch]:
    """A tiny untrained model, its bundle files, and a batch of two sentences to overfit (for tests)."""
    pairs = [Pair("de", "The dog sleeps on <p0>.", "Der Hund schläft auf <p0>."), Pair("fr", "Good day", "Bonjour")]
    words = [side for pair in pairs for side in (pair.english, pair.other)]
    tokenizer = SubwordTokenizer.train(words * 20, languages=LANGUAGES, vocab_size=360)
    torch.manual_seed(1)
    sizes = {**SIZES["tiny"].model, "dropout": 0.0, "embed_dropout": 0.0, "word_dropout": 0.0}
    model = Model(_config(replace(SIZES["tiny"], model=sizes), tokenizer))
    with torch.no_grad():
        model.bias[tokenizer.eos_id] = 3.0  # an untrained model seldom ends by itself
    batches = PairBatches({"toy": pairs}, {"toy": 1.0}, tokenizer, tokens_per_batch=[1_000], seed=1)
    return model, _files(tokenizer), next(iter(batches.epoch(0, skip=0)))
