"""Weights between a run's first and its last."""

from __future__ import annotations

import torch
from torch import nn

from mlcore.training.mixing import SHARES, mix


def test_the_best_share_of_a_runs_own_weights_is_taken() -> None:
    model = nn.Linear(1, 1)
    first = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    own = {name: value.clone() for name, value in model.state_dict().items()}
    wanted = 0.6 * own["weight"]

    def evaluate(module: nn.Module) -> dict[str, float]:
        assert not module.training
        return {"mean": -float((module.weight - wanted).detach().abs().sum()), "other": 1.0}  # type: ignore[operator]

    share, scores = mix(model, first, evaluate)
    assert share == 0.6
    assert list(scores) == list(SHARES)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, 0.6 * own[name])


def test_a_run_that_forgot_nothing_keeps_its_own_weights() -> None:
    model = nn.Linear(1, 1)
    own = model.weight.detach().clone()
    first = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    share, _ = mix(model, first, lambda module: {"mean": float(module.weight.detach().abs())})  # type: ignore[operator]
    assert share == 1.0
    torch.testing.assert_close(model.weight.detach(), own)


def test_a_run_that_only_forgot_ends_as_it_began() -> None:
    model = nn.Linear(1, 1)
    first = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    share, _ = mix(model, first, lambda module: {"mean": -float(module.weight.detach().abs())})  # type: ignore[operator]
    assert share == 0.0
    assert model.weight.item() == 0.0
