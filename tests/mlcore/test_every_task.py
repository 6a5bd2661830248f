"""The contract that every task keeps; a new task is tested without a new test."""

from __future__ import annotations

import json

import pytest
import torch

from mlcore import models, task
from mlcore.bundle import Bundle
from mlcore.errors import InvalidInput
from mlcore.fields import Record
from mlcore.predictor import Predictor, close, self_test
from mlcore.training.run import recipe

NAMES = task.names()
pytestmark = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def predictor(name: str, tiny_bundles: dict[str, Bundle]) -> Predictor:
    return Predictor(tiny_bundles[name])


def requests(name: str) -> list[dict]:
    return [{"inputs": e.inputs, "options": e.options} for e in task.get(name).examples]


def test_examples_are_clean(name: str) -> None:
    spec = task.get(name)
    assert len(spec.examples) >= 5
    for example in spec.examples:
        inputs, options = spec.clean(example.inputs, example.options)
        assert spec.clean(inputs, options) == (inputs, options)


def test_answers_fit_their_schema_and_are_json(name: str, predictor: Predictor) -> None:
    output = Record(fields=task.get(name).output)
    for answer in predictor.predict(requests(name)):
        assert json.loads(json.dumps(answer["output"], allow_nan=False)) == answer["output"]
        output.clean("output", answer["output"])


def test_a_batch_answers_as_its_members_alone(name: str, predictor: Predictor) -> None:
    together = list(predictor.predict(requests(name)))
    alone = [next(predictor.predict([request])) for request in requests(name)]
    assert close(together, alone, 2e-4)  # numbers come rounded to four places: near a half to the one or the other


def test_a_written_bundle_gives_equal_answers(name: str, tiny_bundles: dict[str, Bundle], predictor: Predictor) -> None:
    again = Predictor(Bundle.open(tiny_bundles[name].path))
    assert list(again.predict(requests(name))) == list(predictor.predict(requests(name)))
    self_test(again)


def test_two_items_can_be_overfitted_and_every_weight_gets_a_gradient(name: str) -> None:
    module = recipe(name)
    model, _, batch = module.toy()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    first = float(module.loss(model, batch, label_smoothing=0.0).detach())
    for _ in range(80):
        optimizer.zero_grad()
        loss = module.loss(model, batch, label_smoothing=0.0)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.1 * first
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_the_model_is_in_the_registry(name: str, tiny_bundles: dict[str, Bundle]) -> None:
    module = models.resolve(tiny_bundles[name].manifest["model"])
    assert module.Model.__doc__ and module.Config.__doc__


def test_the_strip_covers_the_text_in_order(name: str, predictor: Predictor) -> None:
    spec = task.get(name)
    for request, answer in zip(requests(name), predictor.predict(requests(name)), strict=True):
        strip = spec.strip(request["inputs"], answer["output"])
        place = 0
        for cell in strip.cells:
            assert place <= cell.start < cell.end <= len(strip.text)
            assert -1 <= cell.tint <= 1
            assert not strip.text[place : cell.start].strip(), "what lies between cells is white space"
            place = cell.end
        assert not strip.text[place:].strip()
        assert spec.headline_of_output(answer["output"])


def test_a_bad_item_fails_alone(name: str, predictor: Predictor) -> None:
    good = requests(name)
    answers = list(predictor.predict([good[0], {"inputs": {"no-such-input": 1}}, 7, good[1]]))
    assert ["output" in answer for answer in answers] == [True, False, False, True]


def test_unknown_names_are_refused_and_the_known_ones_listed(name: str) -> None:
    spec = task.get(name)
    with pytest.raises(InvalidInput, match=next(iter(spec.inputs))):
        spec.clean({"no-such-input": 1}, {})
    with pytest.raises(InvalidInput, match="no option"):
        spec.clean(spec.examples[0].inputs, {"no-such-option": 1})
    with pytest.raises(InvalidInput, match=name):
        task.get("no-such-task")
