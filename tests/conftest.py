"""What all tests share: tiny bundles made on the spot, and jobs run in this process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mlcore import task
from mlcore.bundle import Bundle
from mlcore.predictor import load_model
from mlcore.training.publish import finish, write_bundle
from mlcore.training.run import recipe


def make_bundle(name: str, folder: Path, *, version: int = 1) -> Bundle:
    """A whole bundle of a tiny untrained model."""
    module = recipe(name)
    model, files, _ = module.toy()
    manifest = {
        "task": name,
        "variant": task.get(name).default_variant,
        "version": version,
        "model": module.MODEL,
        "preprocessing": {},
        "licence": "for tests",
    }
    int8 = getattr(module, "INT8", ())
    draft = write_bundle(folder / "draft", model, manifest=manifest, files=files, int8=int8)
    extra = {"card.md": b"# A tiny model\n", "metrics.json": b"{}"}
    bundle = finish(draft, folder / "bundle", model, extra=extra, int8=int8)
    stored = load_model(bundle).state_dict()
    for weight, value in model.state_dict().items():  # float16 or int8 keeps about so much
        torch.testing.assert_close(stored[weight], value, rtol=1e-2, atol=1e-2)
    return bundle


@pytest.fixture(scope="session")
def tiny_bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """One tiny bundle a task."""
    return {name: make_bundle(name, tmp_path_factory.mktemp(name)) for name in task.names()}


@pytest.fixture(scope="session")
def tiny_bundle(tiny_bundles: dict[str, Bundle]) -> Bundle:
    """The tiny bundle of sentiment analysis."""
    return tiny_bundles["sentiment-analysis"]
