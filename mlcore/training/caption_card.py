"""The card of image-captioning/en, written from what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlcore.bundle import Bundle
from mlcore.metrics import markdown_table
from mlcore.predictor import Predictor
from mlcore.training import cards
from mlcore.training.caption_evaluation import PUBLISHED, table
from mlcore.training.caption_scores import CiderReward
from mlcore.training.mixing import Mixing
from mlcore.training.photos import Photo
from mlcore.training.run import Run

STAGES = ("words", "together", "again", "reward")
DATA = (
    ("Flickr8k, train and photos of no split", "Hodosh et al. 2013; research and education, non-commercial"),
    ("COCO photos with captions (594)", "Lin et al. 2014; captions CC BY 4.0, photos under their own licences"),
    ("COCO captions without photos (121,629)", "Lin et al. 2014; CC BY 4.0"),
    ("Flickr30k captions without photos (109,995)", "Young et al. 2014; non-commercial research and education"),
    ("ImageNet, through the encoder's start", cards.ENCODER_ORIGIN),
)
_AIMS = """\
Aimed at on dev, in brackets what @2 has: BLEU-4 25.5 (24.4), CIDEr .68 (.614). What was tried for it is told under “Short
runs”, and what would help."""
_SHORT_RUNS = """\
Before the run of @2, beam 3 on the first 500 photos; each began with @1's decoder (16 photos a step, the rate falling
to nothing at the end):

| tried | steps | CIDEr | BLEU-4 |
| --- | --- | --- | --- |
| @1 as it is: the encoder of image-tagging/en@1 at 260 x 260 | 0 | .600 | .237 |
| the encoder of image-tagging/en@2 at 320 x 320, on which that learned last | 0 | .578 | .232 |
| the same, then `reward` at once | 200 | .603 | .237 |
| the same, then `words` | 300 | .537 | .197 |
| `words` with 5,107 captions without photos besides, each given to the photo with the most alike captions | 300 | .534 | .194 |
| @1 on the mirror image / on both at once, by their mean | 0 | .581 / .584 | .237 / .235 |

The tagger itself scores mAP .611 on COCO's photos at 260 x 260, .624 at 304 and .625 at 320: so captions look at 320
too. `reward` learns from what the decoder draws, so its figures stand above those of `words`, which it starts from.

After @2, each from its decoder on its features, beam 3 on the same photos:

| tried | steps | CIDEr | BLEU-4 |
| --- | --- | --- | --- |
| @2 as it is | 0 | .635 | .243 |
| @2 on 500 photos that it learned from / on other copies of them | 0 | 1.010 / .978 | .366 / .355 |
| encoder (but its first seven blocks) and decoder together by `reward`, 5e-5, photos changed anew each time | 75 / 150 | .590 / .611 | .224 / .241 |
| `reward` of the decoder alone | 150 | .619 | .236 |
| the same, 0.3 of the features' channels left out | 150 | .619 | .235 |
| the same, 0.2 of the channels and 0.4 of the places left out | 150 | .623 | .242 |
| the mean of the last three decoders | 0 | .623 | .237 |
| `words` with dropout .4 in place of .3 and .2, and 0.3 of channels and places left out besides | 150 | .570 | .203 |
| a whole run: `words` with dropout .5 and 0.3 of the places left out, then `reward` | 1,200 + 600 | .622 | .242 |
| between that run's decoder and @2's, 0.3 and 0.7 of them | 0 | .628 | .237 |

None of these was better than @2. What it knows by heart is the limit: tags and captions of these 6,685 photos
taught the encoder too, so it says more of them than of new ones. More photos with captions would help, or an encoder
that has seen more: the same kind of decoder on a frozen CLIP encoder has a BLEU-4 of 25.9 on these photos."""
_PEOPLE = ("man", "woman", "boy", "girl")


def render(
    run: Run,
    predictor: Predictor,
    metrics: dict[str, Any],
    photos: Sequence[Photo],
    *,
    tagger: Bundle | None,
    newer_encoder: bool,
    copies: int,
    mixing: Mixing | None,
) -> str:
    """The whole card, Markdown; `tagger` is where the encoder is from, `copies` of each photo were read besides.

    `newer_encoder`: it is not that of the bundle that the run went on from.

    `mixing` is what `mlcore.training.mixing.mix` returned for the decoder, if the run went on.
    """
    config = predictor.bundle.config
    parameters = {
        name: sum(p.numel() for p in getattr(predictor.model, name).parameters()) / 1e6
        for name in ("encoder", "decoder")
    }
    count = metrics["photos"]
    stages = [stage for stage in STAGES if (run.folder / stage / "log.jsonl").exists()]
    parts = [
        f"# {predictor.bundle.label}",
        "Says in one English sentence what is on a photo, with other sentences and where it looked for each word.",
        f"**Model.** EfficientNet-Lite2 at {config['image_size']} x {config['image_size']} ({parameters['encoder']:.1f} M "
        f"parameters, {_origin(stages, tagger)}), then an LSTM decoder with attention between its "
        f"two layers ({config['hidden_dim']} wide, {config['vocab_size']:,} words, {parameters['decoder']:.1f} M); float16, but the decoder's large "
        "matrices int8.",
        cards.made_by(run) + (" Of these only the decoder: its encoder is newer." if newer_encoder else ""),
        *([cards.mixed(mixing[0])] if mixing else []),
        *(
            [f"Beside each photo and its mirror image, {copies} copies were read, cropped, mirrored and relit."]
            if copies
            else []
        ),
        "## Scores",
        table(metrics),
        "Captions and references in lower case without punctuation; pycocoevalcap's BLEU and CIDEr over all five "
        f"references; METEOR by nltk without synonyms. Published: {PUBLISHED}. The stages' best evaluations were chosen on "
        "the first 500 of these photos.",
        f"With float32 weights instead of the stored ones, beam 3: BLEU-4 {metrics['unrounded']['bleu4']:.3f}, CIDEr "
        f"{metrics['unrounded']['cider']:.3f}.",
        f"Of {count:,} captions {metrics['repeats']} repeat a word or a pair of words and {metrics['open_ends']} end in the "
        f"middle of a phrase. Mean pairwise BLEU-4 of the captions that are decoded for a photo: {metrics['diversity']:.2f}.",
        *(_mixing(mixing) if mixing else []),
        "## Learning curves",
        *(f"{stage}:\n\n{_curve(run, stage)}" for stage in stages),
        "## Twenty photos",
        _twenty(metrics["captions"], photos),
        "## Who is seen",
        "How often captions and references name a person's sex, on the same photos:",
        _people(metrics["captions"], photos),
        "## Data and terms",
        markdown_table(["data", "source and terms"], [list(row) for row in DATA]),
        "Flickr30k's captions of Flickr8k's photos were left out of the text, and so were photos with held-back captions. The "
        "weights may be used for research and education, not commercially.",
        "## Known failures",
        "Numbers above three, text on signs, indoor scenes and objects that Flickr8k seldom shows (it is full of dogs, "
        "children and sport), who does what to whom. It guesses the sex and age of people. Photos are squashed to a square, "
        "so very long ones are seen distorted.",
        "## Aims",
        _AIMS,
    ]
    return "\n\n".join(parts) + "\n"


def _origin(stages: Sequence[str], tagger: Bundle | None) -> str:
    start = f"that of our {tagger.label}, which began with ImageNet weights" if tagger else "from ImageNet weights"
    return f"{start}; tuned further with the decoder" if "together" in stages else f"{start}; frozen here"


def _mixing(mixing: Mixing) -> list[str]:
    told = "After the run, the decoder between that of the bundle that it began with and its own, beam 3 on the first 500 photos:"
    return ["## Short runs", _SHORT_RUNS, told, cards.mixing_table(mixing, {"mean": "CIDEr", "bleu4": "BLEU-4"})]


def _curve(run: Run, stage: str) -> str:
    return markdown_table(["step", "hours", "CIDEr", "BLEU-4"], cards.learning_curve(run, stage, ["cider", "bleu4"]))


def _twenty(captions: Sequence[str], photos: Sequence[Photo]) -> str:
    """Ten at random, the five best and the five worst by CIDEr-D."""
    reward = CiderReward([photo.captions for photo in photos])
    scores = np.array([reward(i, caption.split()) for i, caption in enumerate(captions)])
    ranked = np.argsort(-scores)
    random = np.random.default_rng(5).permutation(len(captions))[:10]
    rows = []
    for kind, chosen in (("random", random), ("best", ranked[:5]), ("worst", ranked[::-1][:5])):
        rows += [
            [kind, captions[i], " ".join(photos[i].captions[0]), f"{scores[i]:.2f}", photos[i].name] for i in chosen
        ]
    return markdown_table(["", "caption", "one reference", "CIDEr-D", "photo"], rows)


def _people(captions: Sequence[str], photos: Sequence[Photo]) -> str:
    rows = []
    for word in _PEOPLE:
        ours = sum(word in caption.split() for caption in captions) / len(captions)
        theirs = [sum(word in words for words in photo.captions) / len(photo.captions) for photo in photos]
        rows.append([word, f"{ours * 100:.1f} %", f"{np.mean(theirs) * 100:.1f} %"])
    return markdown_table(["word", "captions", "references"], rows)
