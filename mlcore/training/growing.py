"""A language model that goes on with more layers than it had."""

from __future__ import annotations

import torch
from torch import nn

from mlcore.models.lstm_language_model import Model


def grow(model: Model, first: nn.Module) -> bool:
    """Give a model with more layers, which `residual` ones are, the weights of one with fewer; whether it has more.

    It answers as the other does: what is new adds nothing yet.
    """
    assert isinstance(first, Model)
    one, more = first.config.num_layers, model.config.num_layers
    if one >= more or not model.config.residual:
        return False
    last, new_last = (f"layers.layers.{count - 1}." for count in (one, more))
    found = {
        new_last + name.removeprefix(last) if name.startswith(last) else name: value
        for name, value in first.state_dict().items()
        if name != "layers.scales"  # of a grown one that grows again: its places are the new one's first
    }
    if first.layers.scales is not None and model.layers.scales is not None:
        with torch.no_grad():
            model.layers.scales[: one - 1] = first.layers.scales[: one - 1]
    model.load_state_dict({**model.state_dict(), **found})
    return True
