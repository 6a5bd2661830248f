"""Parts that every card has."""

from __future__ import annotations

from mlcore.training import cards


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
