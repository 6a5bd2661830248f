"""A language model with new layers says what it said without, until it learns."""

from __future__ import annotations

from dataclasses import replace

import torch

from mlcore.models.lstm_language_model import Config, Model
from mlcore.training.growing import grow
from mlcore.training.voices import CarriedLoss

SMALL = Config(50, ("a", "b"), embed_dim=12, hidden_dim=16, dropout=0.0, embed_dropout=0.0, token_dropout=0.0)
TOKENS, VOICES = torch.tensor([[3, 7, 9, 2]]), torch.tensor([[0, 0, 1, 1]])


def test_new_layers_add_nothing_at_first_and_then_learn() -> None:
    torch.manual_seed(1)
    first = Model(replace(SMALL, weight_dropout=0.0)).eval()
    grown = Model(replace(first.config, num_layers=4, residual=True))
    assert grow(grown, first)
    wanted, _ = first(TOKENS, VOICES)
    found, state = grown.eval()(TOKENS, VOICES)
    torch.testing.assert_close(found, wanted)
    assert [h.shape[-1] for h, _ in state] == [16, 16, 16, 12]

    optimizer = torch.optim.Adam(grown.train().parameters(), lr=0.01)
    before = grown.layers.layers[1].weight_hh_l0.clone()
    batch = {"tokens": TOKENS, "voices": VOICES, "first": torch.tensor([1])}
    for _ in range(3):
        optimizer.zero_grad()
        CarriedLoss()(grown, batch).backward()
        optimizer.step()
    assert grown.layers.scales is not None
    assert (grown.layers.scales.detach()[1:3] != 0).all()
    assert not torch.equal(before, grown.layers.layers[1].weight_hh_l0)

    again = Model(replace(grown.config, num_layers=5))
    assert grow(again, grown)
    torch.testing.assert_close(again.eval()(TOKENS, VOICES)[0], grown.eval()(TOKENS, VOICES)[0])


def test_a_model_of_as_many_layers_does_not_grow() -> None:
    model = Model(replace(SMALL, residual=True))
    assert not grow(model, Model(SMALL))
