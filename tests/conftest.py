"""What all tests share: tiny bundles made on the spot, and jobs run in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlcore import task
from mlcore.bundle import Bundle
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
    return finish(draft, folder / "bundle", model, extra=extra, int8=int8)


@pytest.fixture(scope="session")
def tiny_bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """One tiny bundle a task."""
    return {name: make_bundle(name, tmp_path_factory.mktemp(name)) for name in task.names()}


@pytest.fixture(scope="session")
def tiny_bundle(tiny_bundles: dict[str, Bundle]) -> Bundle:
    """The tiny bundle of sentiment analysis."""
    return tiny_bundles["sentiment-analysis"]
