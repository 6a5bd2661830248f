"""Engine and predictor: bisecting, chunking, long texts."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch

from mlcore.bundle import Bundle
from mlcore.engine import Failed, Final
from mlcore.predictor import Predictor, close


@pytest.fixture
def predictor(tiny_bundle: Bundle) -> Predictor:
    return Predictor(tiny_bundle)


def texts(*rows: str) -> list[dict[str, str]]:
    return [{"text": row} for row in rows]


def test_a_batch_that_raises_is_bisected(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = predictor.forward

    def poisonous(items: Any) -> Any:
        if any(item.context.text == "poison" for item in items):
            raise RuntimeError("poison")
        return whole(items)

    monkeypatch.setattr(predictor, "forward", poisonous)
    engine = predictor.engine(8)
    for key in range(8):
        engine.add(key, predictor.prepare({"text": "poison" if key == 5 else f"text {key}"}))
    events = dict(engine.step())
    assert [key for key, event in events.items() if isinstance(event, Failed)] == [5]
    assert sum(isinstance(event, Final) for event in events.values()) == 7


def test_a_batch_that_did_not_fit_is_let_go_before_its_halves(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch lives as long as the error that names its frames."""
    failed: list[weakref.ref[Batch]] = []
    alive: list[int] = []

    class Batch:
        """What a step had in its memory."""

    def narrow(items: Any) -> Any:
        alive.append(sum(reference() is not None for reference in failed))
        batch = Batch()
        failed.append(weakref.ref(batch))
        if len(items) > 1:
            raise torch.OutOfMemoryError
        return [{}]

    monkeypatch.setattr(predictor, "forward", narrow)
    engine = predictor.engine(4)
    assert engine._answer([predictor.prepare({"text": f"text {key}"}) for key in range(4)]) == [{}] * 4
    assert alive == [0] * 7


def test_an_answer_that_is_not_finite_is_no_answer(predictor: Predictor) -> None:
    with torch.no_grad():
        predictor.model.head[-1].bias.fill_(float("nan"))  # type: ignore[index, union-attr]
    (answer,) = predictor.predict(texts("good"))
    assert answer["error"]["field"] is None


def test_long_texts_are_read_whole(predictor: Predictor) -> None:
    long = "fine " * 3_000 + "dreadful"
    (answer,) = predictor.predict(texts(long))
    assert answer["output"]["words"][-1]["text"] == "dreadful"
    assert len(answer["output"]["words"]) == 3_001


def test_mixed_lengths_in_one_batch_answer_as_alone(predictor: Predictor) -> None:
    # the numbers keep the texts from repeating: which of two equal maxima is named is chance
    rows = texts("good", " ".join(f"text {i} is long" for i in range(40)), "no", "the story is dull in 5 of 6 ways")
    assert close(list(predictor.predict(rows)), [next(predictor.predict([row])) for row in rows], 1e-4)


@pytest.mark.parametrize("text", ["🙂", "مرحبا بالعالم", "你好 world", "a" * 5_000, "...", "\u202eabc", "e\u0301" * 50])
def test_any_script_is_answered(predictor: Predictor, text: str) -> None:
    (answer,) = predictor.predict(texts(text))
    for word in answer["output"]["words"]:
        assert text[word["start"] : word["end"]] == word["text"]


def test_prediction_streams(predictor: Predictor) -> None:
    taken = []

    def endless() -> Any:
        while True:
            taken.append(1)
            yield {"text": "good"}

    stream = predictor.predict(endless(), batch_size=4)
    next(stream)
    assert len(taken) == 4
