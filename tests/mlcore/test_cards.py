"""Parts that every card has."""

from __future__ import annotations

from unittest.mock import Mock

from mlcore.training import cards
from mlcore.training.translation_card import inherited_sets


def test_weights_between_two_are_told_with_the_scores_of_all() -> None:
    scores = {1.0: {"coco": 0.6123, "other": 0.1}, 0.4: {"coco": 0.6201, "other": 0.2}}
    assert cards.mixed(0.4).startswith("**Weights.** 0.4 of the run's own and 0.6 of those that it began with")
    assert cards.mixed(1.0).startswith("**Weights.** The run's own: ")
    assert cards.mixing_table((0.4, scores), {"coco": "mAP COCO"}).splitlines() == [
        "| share of its own | mAP COCO |",
        "| --- | --- |",
        "| 1 | 0.612 |",
        "| 0.4, which ships | 0.620 |",
    ]


def test_sets_that_only_a_bundle_before_learned_from_are_named() -> None:
    sets = ("set | pairs | terms", "tatoeba | 414,905 | x", "own_captions | 29,993 | x", "pud | 7, read by a@1 | x")
    card = "\n".join(f"| {row} |" for row in sets)
    rows = inherited_sets(Mock(card=card, label="a@2"), {"tatoeba": 5, "own_captions": 0})
    assert [row[:2] for row in rows] == [["own_captions", "29,993, read by a@2"], ["pud", "7, read by a@1"]]
    assert "COCO" in rows[0][2]
    assert inherited_sets(None, {}) == []
