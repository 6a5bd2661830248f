"""image-tagging/en: EfficientNet-Lite2 with a sigmoid head and an LSTM that names tags, trained in two stages.

1. `probe`: the head alone, on pooled features of the frozen encoder: where the head starts. With `--init` it is left
   out: the bundle's head is taught.
2. `together`: encoder, head and decoder on photos cropped, mirrored and relit. Crops are smaller than the square that
   the model is used at: a crop shows things larger than the whole photo does (Touvron et al. 2019,
   https://arxiv.org/abs/1906.06423). The first blocks, which cost the most and know the least of labels, learn last.

The mixture of head and decoder, and Platt's calibration, are fitted on dev. Data: see `mlcore.training.photos`; the
encoder starts from `pretrained/efficientnet_lite2_*.safetensors`.
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
from sklearn.linear_model import LogisticRegression
from torch import nn

from mlcore.models import cnn
from mlcore.models.rnn_tagger import Config, Model, pool
from mlcore.predictor import Predictor, load_model
from mlcore.training import tag_card, tag_evaluation
from mlcore.training.mixing import mix
from mlcore.training.photos import Photo, label_sets, tagged
from mlcore.training.process import has_fast_bfloat16
from mlcore.training.publish import finish, write_bundle
from mlcore.training.run import Run
from mlcore.training.tagging import (
    Batch,
    Labels,
    PooledBatches,
    TaggedBatches,
    linear_logits,
    probe_loss,
    tag_loss,
)
from mlcore.training.trainer import Settings, Trainer
from mlcore.training.vision import encoder_features, start_encoder

logger = logging.getLogger(__name__)

VERSION = 1
STRENGTHS = (0.03, 0.1, 0.3)  # of the baseline's penalty
MODEL = "rnn-tagger"
LICENCE = (
    "Weights for research and education, not commercial: trained on Flickr8k and COCO photos; the encoder began as "
    "google's EfficientNet-Lite2 (Apache-2.0). See the card."
)


@dataclass(frozen=True)
class Size:
    """Constants of one size of run."""

    model: dict[str, Any]
    probe: Settings
    together: Settings
    crop_size: int  # pixels of a training crop
    frozen_blocks: int = 7  # of the encoder, that learn in the last tenth of the second stage only
    photos_per_batch: int = 32
    photos: int = 0  # use only so many of each split; 0 takes all


SIZES = {
    "tiny": Size(
        model={
            **{"blocks": cnn.TINY, "stem_dim": 4, "feature_dim": 16, "image_size": 64},
            **{"embed_dim": 8, "hidden_dim": 16, "attention_dim": 8},
        },
        probe=Settings(steps=10, max_lr=1e-2, evaluate_every=5),
        together=Settings(steps=6, max_lr=1e-3, evaluate_every=3),
        crop_size=48,
        photos_per_batch=4,
        photos=40,
    ),
    "base": Size(
        model={},
        probe=Settings(steps=4_000, max_lr=1e-3, evaluate_every=1_000, weight_decay=2.0),
        together=Settings(
            steps=1_050, max_lr=5e-4, evaluate_every=150, weight_decay=0.05, average_from=0.33, average_decay=0.95
        ),
        crop_size=256,
    ),
    "large": Size(
        model={"hidden_dim": 512},
        probe=Settings(steps=4_000, max_lr=1e-3, evaluate_every=1_000, weight_decay=2.0),
        together=Settings(steps=6_000, max_lr=5e-4, evaluate_every=500, weight_decay=0.05),
        crop_size=288,
    ),
}

# Runs that go on from a bundle (`--init`): the first run read its photos little more than three times.
FURTHER = {
    "base": replace(
        SIZES["base"],
        together=Settings(
            steps=2_600, max_lr=4e-4, evaluate_every=400, weight_decay=0.05, average_from=0.33, average_decay=0.95
        ),
    ),
}


def _start(run: Run, size: Size, labels: Labels) -> Model:
    torch.manual_seed(run.seed)
    model = Model(Config(num_labels=len(labels.names), sets=labels.members, **size.model))
    if run.init:
        run.load_first(model)
    else:
        start_encoder(model.encoder, run.data)
    return model


def _probe(
    run: Run, size: Size, model: Model, labels: Labels, photos: list[Photo], dev: list[Photo]
) -> dict[str, float]:
    """Train the head on the frozen encoder's features; mAP of each set of the baseline on the same."""
    model.eval()
    pooled, dev_pooled = (encoder_features(run.folder, model.encoder, part, pool) for part in (photos, dev))
    views = torch.from_numpy(dev_pooled.astype(np.float32))  # (N, 2, F): judged as the shipped model does
    target, known = labels.targets(dev)
    places = tag_evaluation.by_set(labels, dev)

    def evaluate(head: Any) -> dict[str, float]:
        logits = head.judge(views).mean(dim=1).detach().numpy()
        scores = {
            name: tag_evaluation.mean_average_precision(logits[rows], target[rows], known[rows])
            for name, rows in places.items()
        }
        return scores | {"mean": sum(scores.values()) / len(scores)}

    model.head.standardise(torch.from_numpy(pooled[:, 0].astype(np.float32)))
    trainer = Trainer(
        model.head,
        settings=replace(size.probe, seed=run.seed),
        batches=PooledBatches(pooled, photos, labels, seed=run.seed),
        loss=probe_loss,  # type: ignore[arg-type]
        evaluate=evaluate,
        monitor="mean",
        folder=run.folder / "probe",
        progress=run.progress("probe"),
    )
    trainer.fit(resume=run.resume)
    run.record("probe", trainer.state.seconds)
    known_target, known_photos = (torch.from_numpy(part).float() for part in labels.targets(photos))
    found = []
    for strength in STRENGTHS:  # the best on dev: a baseline is to be hard to beat
        logits = linear_logits(
            torch.from_numpy(pooled[:, 0].astype(np.float32)),
            known_target,
            known_photos,
            views[:, 0],
            strength=strength,
        ).numpy()
        found.append(
            {
                name: round(tag_evaluation.mean_average_precision(logits[rows], target[rows], known[rows]), 4)
                for name, rows in places.items()
            }
        )
    return max(found, key=lambda scores: sum(scores.values()))


def _dev_scores(labels: Labels, dev: list[Photo], model: Any) -> dict[str, float]:
    """mAP of each set by head, decoder and both at equal parts (which have the set's plain name), and their mean."""
    target, known = labels.targets(dev)
    places = tag_evaluation.by_set(labels, dev)
    with torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bfloat16()):  # three times as fast, and near enough
        head, decoder = tag_evaluation.logits(model, dev, labels)
    found: dict[str, float] = {}
    for name, rows in places.items():
        kinds: dict[str, tag_evaluation.Array] = {"": (head + decoder) / 2, "_head": head, "_decoder": decoder}
        found |= {
            f"{name}{kind}": tag_evaluation.mean_average_precision(logits[rows], target[rows], known[rows])
            for kind, logits in kinds.items()
        }
    return found | {"mean": sum(found[name] for name in places) / len(places)}


def _together(run: Run, size: Size, model: Model, labels: Labels, photos: list[Photo], dev: list[Photo]) -> None:
    """Train the whole model on photos; the encoder more slowly than what is new."""
    new = [*model.head.parameters(), *model.decoder.parameters()]
    early, late = model.encoder.split(size.frozen_blocks)
    trainer = Trainer(
        model,
        settings=replace(size.together, seed=run.seed),
        batches=TaggedBatches(photos, labels, per_batch=size.photos_per_batch, seed=run.seed, side=size.crop_size),
        loss=tag_loss,  # type: ignore[arg-type]
        evaluate=partial(_dev_scores, labels, dev),
        monitor="mean",
        folder=run.folder / "together",
        groups=[(new, 1.0, 0), (late, 0.2, 0), (early, 0.2, int(0.9 * size.together.steps))],
        progress=run.progress("together"),
    )
    trainer.fit(resume=run.resume)
    run.record("together", trainer.state.seconds)


def calibrated(model: Model, labels: Labels, dev: list[Photo]) -> Model:
    """The same weights with mirror images, the mixture of best mAP, and Platt's two numbers a set, fitted on dev."""
    found = Model(replace(model.config, mirror=True))
    found.load_state_dict(model.state_dict())
    model = found.eval()
    head, decoder = tag_evaluation.logits(model, dev, labels)
    target, known = labels.targets(dev)
    places = tag_evaluation.by_set(labels, dev)

    def mean(mix: float) -> float:
        mixed = mix * head + (1 - mix) * decoder
        return float(
            np.mean([tag_evaluation.mean_average_precision(mixed[r], target[r], known[r]) for r in places.values()])
        )

    mix = round(float(max(np.linspace(0, 1, 11), key=mean)), 2)
    mixed = mix * head + (1 - mix) * decoder
    slopes, intercepts = [], []
    for rows in places.values():
        asked = known[rows]
        fit = LogisticRegression(C=1e6).fit(mixed[rows][asked][:, None], target[rows][asked])
        slopes.append(round(float(fit.coef_[0, 0]), 4))
        intercepts.append(round(float(fit.intercept_[0]), 4))
    found = Model(replace(model.config, mix=mix, slopes=tuple(slopes), intercepts=tuple(intercepts)))
    found.load_state_dict(model.state_dict())
    return found.eval()


def train(run: Run) -> Path:
    """The whole recipe; returns the folder of the finished bundle."""
    size = FURTHER.get(run.size, SIZES[run.size]) if run.init else SIZES[run.size]
    labels = Labels(label_sets(run.data))
    photos, dev = (_some(tagged(run.data, split), size.photos) for split in ("train", "val"))
    logger.info("%d photos, %d for dev, %d labels", len(photos), len(dev), len(labels.names))
    model = _start(run, size, labels)
    first = run.first_bundle()
    # a bundle's head is taught, and its encoder's features are no longer ImageNet's
    baseline = _probe(run, size, model, labels, photos, dev) if first is None else first.metrics.get("baseline", {})
    _together(run, size, model, labels, photos, dev)
    start = None if first is None else load_model(first).state_dict()
    mixing = None if start is None else mix(model, start, partial(_dev_scores, labels, dev))
    model = calibrated(model, labels, dev)
    manifest = {
        "task": run.task,
        "variant": run.variant,
        "version": run.version(VERSION),
        "model": MODEL,
        "preprocessing": {"resize": "squash, bicubic", "colour": "RGB"},
        "licence": LICENCE,
    }
    draft = write_bundle(run.folder / "draft", model, manifest=manifest, files=_files(labels))
    predictor = Predictor(draft)
    metrics = tag_evaluation.measure(predictor, dev, "dev") | {"baseline": baseline}
    card = tag_card.render(run, predictor, metrics, dev, mixing)
    finish(
        draft, run.out, model, extra={"metrics.json": json.dumps(metrics, indent=1).encode(), "card.md": card.encode()}
    )
    return run.out


def _some(photos: list[Photo], number: int) -> list[Photo]:
    """All photos, or so many from both ends: both sets are among them."""
    return [*photos[: number // 2], *photos[-(number - number // 2) :]] if number else photos


def _files(labels: Labels) -> dict[str, bytes]:
    return {"labels.json": json.dumps({"sets": labels.sets}, indent=1).encode()}


evaluate, table = tag_evaluation.evaluate, tag_evaluation.table


def loss(model: nn.Module, batch: Batch, *, label_smoothing: float = 0.0) -> torch.Tensor:
    """The loss of the second stage; label smoothing plays no part in it."""
    return tag_loss(model, batch)  # type: ignore[arg-type]


def toy() -> tuple[Model, dict[str, bytes], Batch]:
    """A tiny untrained model, its bundle files, and a batch of two photos to overfit (for tests)."""
    labels = Labels({"coco": ["dog", "boat", "person"], "flickr8k": ["dog", "grass", "beach", "running"]})
    torch.manual_seed(1)
    sizes: dict[str, Any] = {**SIZES["tiny"].model, "dropout": 0.0, "feature_dropout": 0.0}
    model = Model(
        Config(num_labels=len(labels.names), sets=labels.members, slopes=(1.0, 1.0), intercepts=(0.0, 0.0), **sizes)
    )
    photos = [
        Photo("one", b"", tags=frozenset({"dog", "person"}), tag_set="coco"),
        Photo("two", b"", tags=frozenset({"beach"}), doubtful=frozenset({"dog"}), tag_set="flickr8k"),
    ]
    marks = TaggedBatches(photos, labels, per_batch=2, seed=1, side=64).marks(np.arange(2), np.random.default_rng(1))
    return model, _files(labels), {"images": torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8), **marks}
