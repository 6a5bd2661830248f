"""An untrained but large writer, for tests that must reach it while it writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from mlcore import task
from mlcore.bundle import Bundle
from mlcore.models.lstm_language_model import Model
from mlcore.subwords import TextTokenizer
from mlcore.training.publish import finish, write_bundle
from mlcore.training.recipes import text_generation as recipe


def make_writer(folder: Path) -> Bundle:
    """A few milliseconds a token."""
    toy, files, _ = recipe.toy()
    torch.manual_seed(2)
    model = Model(replace(toy.config, hidden_dim=800, num_layers=3))
    with torch.no_grad():
        model.bias[3] = -20.0  # an untrained model ends at any moment, and writes bytes that are no text
        for index, piece in enumerate(TextTokenizer(files["tokenizer.model"]).raw):
            if not piece.isascii() or (piece < b" " and piece != b"\n"):
                model.bias[index] = -20.0
    manifest = {
        **{"task": "text-generation", "variant": task.get("text-generation").default_variant, "version": 1},
        **{"model": recipe.MODEL, "preprocessing": {}, "licence": "for tests"},
    }
    draft = write_bundle(folder / "draft", model.eval(), manifest=manifest, files=files)
    return finish(draft, folder / "bundle", model, extra={"card.md": b"# A writer\n", "metrics.json": b"{}"})
