"""The stages that a captioner is trained in: on texts, on features of photos, on photos themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mlcore.models.attention_captioner import Decoder, Model
from mlcore.text import Vocabulary
from mlcore.training import caption_scores
from mlcore.training.captioning import (
    Batch,
    PhotoBatches,
    PixelBatches,
    TextBatches,
    caption_loss,
    encode,
    nats_per_word,
    pad,
    search,
)
from mlcore.training.photos import Photo
from mlcore.training.run import Run
from mlcore.training.trainer import Settings, Trainer
from mlcore.training.vision import encoder_features

LONGEST = 24  # words of a training caption


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
    augmented: int = 0  # copies of each photo, cropped, mirrored and relit, whose features are read too
    photos_per_batch: int = 16
    tokens_per_batch: int = 2_048
    photos: int = 0  # use only so many; 0 takes all
    texts: int = 0
    dev_photos: int = 500  # of val, to choose the best evaluation


@dataclass
class Stages:
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
            keep_first=name == "reward",  # the words of a bundle that had its reward already get worse before better
        )
        trainer.fit(resume=self.run.resume)
        self.run.record(name, trainer.state.seconds)

    def scores(self, decoder: Decoder, features: Tensor, beam_size: int = 3) -> dict[str, float]:
        """BLEU and CIDEr on the dev photos; features (N, P, F)."""
        found = search(decoder, features, beam_size=beam_size)
        words = [self.vocabulary.decode(hypothesis.tokens) for hypothesis in found]
        return caption_scores.score(words, [photo.captions for photo in self.dev])

    def english(self, decoder: Decoder, texts: list[tuple[str, ...]]) -> None:
        """The decoder as a language model of captions; up to 2,000 texts are held out (of a photo, perhaps, whose
        other captions are learned)."""
        encoded = encode(self.vocabulary, texts, LONGEST)
        order = np.random.default_rng(self.run.seed).permutation(len(encoded))
        held_out = min(2_000, len(encoded) // 10)
        dev = [pad([encoded[i] for i in part]) for part in np.array_split(order[:held_out], max(1, held_out // 100))]

        def evaluate(module: Decoder) -> dict[str, float]:
            return {"minus_nats": -nats_per_word(module, dev)}

        batches = TextBatches(
            [encoded[i] for i in order[held_out:]], tokens_per_batch=self.size.tokens_per_batch, seed=self.run.seed
        )
        self.fit("english", decoder, batches, caption_loss, evaluate, "minus_nats")

    def features(self, model: Model) -> NDArray[np.float16]:
        """What the encoder as it is now makes of the training photos (N, views, P, F)."""
        return encoder_features(self.run.folder, model.encoder, self.train, augmented=self.size.augmented)

    def on_features(self, name: str, model: Model, loss: Callable[[Any, Batch], Tensor]) -> None:
        """A stage of the decoder alone, on the frozen encoder's features."""
        model.eval()
        features = self.features(model)
        dev = encoder_features(self.run.folder, model.encoder, self.dev)
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
