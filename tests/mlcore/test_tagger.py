"""The tagger: naming step by step, labels that a set does not know, its loss, the task's options."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlcore import task
from mlcore.bundle import Bundle
from mlcore.models import cnn
from mlcore.models.rnn_tagger import Config, Model
from mlcore.predictor import Predictor
from mlcore.training.losses import known_cross_entropy
from mlcore.training.photos import Photo
from mlcore.training.recipes import image_tagging as recipe
from mlcore.training.tag_evaluation import mean_average_precision
from mlcore.training.tagging import Labels, TaggedBatches

SETS = ((0, 1, 2), (2, 3, 4, 5))


@pytest.fixture
def model() -> Model:
    torch.manual_seed(3)
    small = {"stem_dim": 4, "feature_dim": 12, "embed_dim": 8, "hidden_dim": 16, "attention_dim": 8}
    config = Config(num_labels=6, sets=SETS, blocks=cnn.TINY, image_size=64, max_tags=4, **small)  # type: ignore[arg-type]
    found = Model(config).eval()
    with torch.no_grad():
        found.decoder.out.weight.mul_(6)  # untrained logits are near 0: make some labels likely
    return found


def features(model: Model, rows: int) -> torch.Tensor:
    with torch.inference_mode():
        return model.encoder(torch.randint(0, 256, (rows, 3, 64, 64), dtype=torch.uint8))


@torch.inference_mode()
def test_naming_goes_on_until_nothing_is_likelier_than_not(model: Model) -> None:
    seen, which = features(model, 4), torch.tensor([0, 0, 1, 1])
    judged = model.decoder.judge(seen, which)
    lengths = set()
    for row in range(4):  # the same by teacher forcing, one photo alone
        expected, named = torch.zeros(6), []
        for _ in range(model.config.max_tags + 1):
            tags = torch.tensor([named], dtype=torch.long).view(1, -1)
            logits = model.decoder(seen[row : row + 1], which[row : row + 1], tags)[0, -1]
            left = [label for label in range(6) if label not in named]
            expected[left] = logits[left]
            candidates = [label for label in left if label in SETS[which[row]]]
            best = max(candidates, key=lambda label: float(logits[label]), default=None)
            if best is None or logits[best] <= 0:
                break
            named.append(best)
        lengths.add(len(named))
        torch.testing.assert_close(judged[row], expected, rtol=1e-4, atol=1e-5)
    assert lengths - {0}, "some photo had tags to name"


def test_labels_outside_a_set_get_no_probability(model: Model) -> None:
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    for answer in model.predict({"images": images}):
        for members, probabilities in zip(SETS, answer["probabilities"], strict=True):
            assert [i for i, p in enumerate(probabilities) if p > 0] == sorted(members)


def test_the_loss_is_the_mean_over_what_is_known() -> None:
    logits, target = torch.randn(5, 7), (torch.rand(5, 7) > 0.6).float()
    known = torch.rand(5, 7) > 0.3
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[known], target[known])
    torch.testing.assert_close(known_cross_entropy(logits, target, known), expected)


def test_a_label_that_is_not_known_moves_nothing() -> None:
    model, _, batch = recipe.toy()
    unknown = ~batch["known"]
    assert unknown.any()
    first = recipe.loss(model, batch)
    changed = {**batch, "target": batch["target"] ^ unknown}
    torch.testing.assert_close(recipe.loss(model, changed), first)


def test_labels_are_the_union_by_name_and_doubtful_ones_are_not_known() -> None:
    labels = Labels({"coco": ["dog", "cup"], "flickr8k": ["grass", "dog"]})
    assert labels.names == ["dog", "cup", "grass"]
    assert labels.members == ((0, 1), (2, 0))
    photos = [
        Photo("a", b"", tags=frozenset({"cup"}), tag_set="coco"),
        Photo("b", b"", tags=frozenset({"grass"}), doubtful=frozenset({"dog"}), tag_set="flickr8k"),
    ]
    target, known = labels.targets(photos)
    assert target.tolist() == [[False, True, False], [False, False, True]]
    assert known.tolist() == [[True, True, False], [False, False, True]]


def test_the_order_of_tags_is_drawn_anew_and_an_epoch_repeats() -> None:
    labels = Labels({"coco": [f"thing {i}" for i in range(8)]})
    photos = [Photo("a", b"", tags=frozenset(labels.names), tag_set="coco")]
    batches = TaggedBatches(photos, labels, per_batch=1, seed=1, side=64)
    orders = [batches.marks(np.array([0]), np.random.default_rng([1, n]))["named"][0].tolist() for n in range(3)]
    assert all(sorted(order[:8]) == list(range(8)) for order in orders)
    assert len({tuple(order) for order in orders}) > 1


def test_mean_average_precision_leaves_out_rare_labels_and_unknown_photos() -> None:
    target = np.zeros((40, 2), dtype=bool)
    target[:10, 0] = True
    target[:3, 1] = True
    scores = np.where(target, 1.0, 0.0)
    scores[39, 0] = 2.0  # a wrong one on top, of which nothing is known
    known = np.ones_like(target)
    known[39, 0] = False
    assert mean_average_precision(scores, target, known) == pytest.approx(1.0)
    known[39, 0] = True
    assert mean_average_precision(scores, target, known) < 1.0


@pytest.fixture
def predictor(tiny_bundles: dict[str, Bundle]) -> Predictor:
    return Predictor(tiny_bundles["image-tagging"])


def tags(predictor: Predictor, **options: object) -> list[dict]:
    inputs = task.get("image-tagging").examples[0].inputs
    answer = next(predictor.predict([{"inputs": inputs, "options": options}]))
    return answer["output"]["tags"]


def test_options_choose_how_many_how_likely_and_which_set(predictor: Predictor) -> None:
    everything = tags(predictor, top_k=1000)
    assert len(everything) == 6
    assert [tag["score"] for tag in everything] == sorted((tag["score"] for tag in everything), reverse=True)
    assert len(tags(predictor, top_k=2)) == 2
    middle = (everything[1]["score"] + everything[2]["score"]) / 2
    assert tags(predictor, top_k=1000, threshold=middle) == everything[:2]
    assert {tag["label"] for tag in tags(predictor, set="coco")} == {"dog", "boat", "person"}
    assert {tag["label"] for tag in tags(predictor, set="flickr8k")} == {"dog", "grass", "beach", "running"}


def test_a_label_of_both_sets_is_scored_as_people_marked_it(predictor: Predictor) -> None:
    both, coco, flickr = (
        {tag["label"]: tag["score"] for tag in tags(predictor, set=name, top_k=1000)}
        for name in ("all", "coco", "flickr8k")
    )
    assert both == flickr | coco


def test_no_likely_tag_is_said_in_words() -> None:
    spec = task.get("image-tagging")
    assert spec.headline_of_output({"tags": []}) == "no tag is likely"
    many = {"tags": [{"label": f"label {number}", "score": 0.9} for number in range(30)]}
    assert spec.headline_of_output(many).split(", ") == [f"label {number}" for number in range(13)]
    assert spec.strip({}, {"tags": []}).cells == []
