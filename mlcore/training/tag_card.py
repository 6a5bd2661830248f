"""The card of image-tagging/en, written from what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlcore.metrics import markdown_table
from mlcore.predictor import Predictor
from mlcore.task import Item
from mlcore.training import cards
from mlcore.training.mixing import Mixing
from mlcore.training.photos import Photo
from mlcore.training.run import Run
from mlcore.training.tag_evaluation import MIN_POSITIVES, table

DATA = (
    ("COCO, 4,000 photos of train2014, 80 labels marked by people", "Lin et al. 2014; annotations CC BY 4.0"),
    (
        "Flickr8k, 6,091 photos, 138 labels derived from the words of captions",
        "Hodosh et al. 2013; research and education, non-commercial",
    ),
    ("ImageNet, through the encoder's start", cards.ENCODER_ORIGIN),
)

_CURVE = {"coco": "mAP COCO", "flickr8k": "mAP Flickr8k"}
_AIMS = """\
Aimed at on dev, in brackets what @2 has: COCO mAP .65 (.625). The last run was flat from step 1,200 on. It learns from 4,000
of COCO's 118,000 photos, 160 x 160 small; more of them, or larger ones, or an encoder of more parameters would bring more:
fine-tuning has added .034 to what a linear probe finds in this one."""
_SHORT_RUNS = """\
On two cores with AMX, before the run of @2:

| tried | found |
| --- | --- |
| depthwise convolutions in float32, the others in bfloat16, in place of all in bfloat16 | a training step of 32 photos in 1.2 s in place of 2.3 s: kept |

The run was best at step 2,000, before its first blocks began to learn."""


def render(
    run: Run,
    predictor: Predictor,
    metrics: dict[str, Any],
    photos: Sequence[Photo],
    mixing: Mixing | None,
) -> str:
    """The whole card, Markdown; `mixing` is what `mlcore.training.mixing.mix` returned, if the run went on."""
    config = predictor.bundle.config
    millions = {
        name: sum(p.numel() for p in getattr(predictor.model, name).parameters()) / 1e6
        for name in ("encoder", "head", "decoder")
    }
    parts = [
        f"# {predictor.bundle.label}",
        f"Names what is on a photo: {config['num_labels']} labels, each with a calibrated probability.",
        f"**Model.** EfficientNet-Lite2 at {config['image_size']} x {config['image_size']} ({millions['encoder']:.1f} M "
        "parameters, started from ImageNet weights and fine-tuned; its first blocks in the last tenth of a run only), a sigmoid head on mean and maximum of its features "
        f"({millions['head']:.1f} M), and an LSTM that names tags one after another, looking at the photo and at the tags "
        f"named so far ({millions['decoder']:.1f} M; after Wang et al. 2016). Shipped: {config['mix']:g} x head + "
        f"{1 - config['mix']:g} x LSTM, as logits, each the mean over the photo and its mirror image. Float16.",
        cards.made_by(run),
        *([cards.mixed(mixing[0])] if mixing else []),
        "## Scores",
        table(metrics),
        "The linear probe is a logistic regression a label on mean and maximum of the ImageNet encoder's features at the "
        "same size, fitted to convergence, its penalty chosen on dev.",
        f"mAP is the mean of scikit-learn's average precision over labels with at least {MIN_POSITIVES} photos. Every fifth "
        "COCO photo was held out of training; Flickr8k's is its val split. The best evaluation, the mixture, the threshold "
        "and the calibration were chosen on these same photos, so they flatter a little. Labels that a photo's set does not "
        "mark, and Flickr8k labels that one caption of five names, count neither way.",
        "## Learning curve",
        markdown_table(
            ["step", "hours", *_CURVE.values()],
            cards.learning_curve(run, "together", list(_CURVE)),
        ),
        *(_mixing(mixing) if mixing else []),
        "## Labels, the best and the worst",
        *(_labels(name, scores["labels_ap"]) for name, scores in metrics["sets"].items()),
        "## Ten photos",
        _ten(predictor, metrics, photos),
        "## Data and terms",
        markdown_table(["data", "source and terms"], [list(row) for row in DATA]),
        "The weights may be used for research and education, not commercially.",
        "## Known failures",
        "Small things (cutlery, a mouse, a tie), rare ones (toaster, hair drier), and whatever is not among its labels. The "
        "Flickr8k words follow what people write: a sky that nobody mentions is not tagged, and man, woman, boy and girl are "
        "guesses by looks. Photos are squashed to a square, so very long ones are seen distorted.",
        "## Aims",
        _AIMS,
    ]
    return "\n\n".join(parts) + "\n"


def _mixing(mixing: Mixing) -> list[str]:
    told = (
        "After the run, between the weights that it began with and its own; head and LSTM at equal parts, no mirror image, "
        "in bfloat16 where the CPU has it:"
    )
    return ["## Short runs", _SHORT_RUNS, told, cards.mixing_table(mixing, _CURVE)]


def _labels(name: str, values: dict[str, float]) -> str:
    ranked = sorted(values.items(), key=lambda pair: -pair[1])
    shown = {"best": ranked[:8], "worst": ranked[::-1][:8]}
    rows = [[kind, ", ".join(f"{label} {value:.2f}" for label, value in pairs)] for kind, pairs in shown.items()]
    return markdown_table([name, "average precision"], rows)


def _ten(predictor: Predictor, metrics: dict[str, Any], photos: Sequence[Photo]) -> str:
    """Photos picked at random, with the tags over the threshold."""
    rows = []
    for i in np.random.default_rng(5).permutation(len(photos))[:10]:
        photo = photos[i]
        options = {"set": photo.tag_set, "top_k": 8, "threshold": None}
        item = Item({"images": photo.pixels(predictor.assets.image_size)}, options, None, 1)
        tags = predictor.task.postprocess(predictor.forward([item])[0], item, predictor.assets)["tags"]
        threshold = metrics["sets"][photo.tag_set]["threshold"]
        named = ", ".join(f"{tag['label']} {tag['score']:.2f}" for tag in tags if tag["score"] >= threshold)
        rows.append([photo.tag_set, named or "none", ", ".join(sorted(photo.tags)) or "none", photo.name])
    return markdown_table(["set", "tags", "marked by people", "photo"], rows)
