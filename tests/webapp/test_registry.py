"""Versions: installed, upgraded, rolled back, each switch on record."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from mlcore.bundle import Bundle
from mlcore.errors import BundleError
from tests.conftest import make_bundle
from webapp.registry import services
from webapp.registry.models import Activation, ModelVersion

from .conftest import TASK

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Folders that look like the project's own, at version 1 and at version 2."""
    roots = {}
    for number in (1, 2):
        built = make_bundle(TASK, tmp_path_factory.mktemp("built"), version=number)
        roots[number] = tmp_path_factory.mktemp("shipped")
        shutil.copytree(built.path, roots[number] / TASK / "en")
    return roots


def active() -> str:
    return str(services.active(TASK, "en"))


def test_the_first_version_answers_and_a_newer_shipped_one_takes_over(shipped: dict[int, Path]) -> None:
    assert services.sync_shipped(shipped[1]) == []
    assert active().endswith("@1")
    services.sync_shipped(shipped[2])
    assert active().endswith("@2")
    assert [a.kind for a in Activation.objects.order_by("pk")] == ["first", "upgrade"]
    services.activate(services.before(TASK, "en"), kind=Activation.Kind.ROLL_BACK)
    assert active().endswith("@1")
    services.sync_shipped(shipped[2])
    assert active().endswith("@1"), "a person made the last switch"


def test_a_persons_choice_is_not_overruled(shipped: dict[int, Path]) -> None:
    services.sync_shipped(shipped[1])
    first = services.active(TASK, "en")
    Activation.objects.update(kind=Activation.Kind.PERSON)
    services.sync_shipped(shipped[2])
    assert services.active(TASK, "en") == first
    assert ModelVersion.objects.get(version=2).status == "staged"


def test_installing_twice_changes_nothing(shipped: dict[int, Path]) -> None:
    for _ in range(2):
        services.sync_shipped(shipped[1])
    assert ModelVersion.objects.count() == Activation.objects.count() == 1


def test_a_damaged_bundle_is_named_and_the_rest_goes_on(shipped: dict[int, Path], tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(shipped[1], root)
    bad = root / TASK / "bad"
    shutil.copytree(root / TASK / "en", bad)
    (bad / "weights.safetensors").write_bytes(b"nothing")
    (fault,) = services.sync_shipped(root)
    assert "weights.safetensors is damaged" in fault
    assert active().endswith("@1")


def test_a_git_pull_does_not_change_what_serves(shipped: dict[int, Path], tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(shipped[1], root)
    services.sync_shipped(root)
    shutil.rmtree(root)
    assert Bundle.open(services.bundle_path(services.active(TASK, "en"))).version == 1


def test_there_is_one_active_version_at_most(shipped: dict[int, Path]) -> None:
    services.sync_shipped(shipped[1])
    services.install(shipped[2] / TASK / "en")
    with pytest.raises(IntegrityError), transaction.atomic():
        ModelVersion.objects.update(status="active")


def test_without_an_earlier_version_there_is_no_way_back(shipped: dict[int, Path]) -> None:
    services.sync_shipped(shipped[1])
    with pytest.raises(BundleError, match="no earlier version"):
        services.before(TASK, "en")


def test_nothing_installed_is_said() -> None:
    with pytest.raises(services.ModelUnavailable, match="No model is installed"):
        services.active(TASK, "en")


@pytest.mark.parametrize(("name", "content"), [("metrics.json", b"[1]"), ("metrics.json", b"{"), ("card.md", b"\xff")])
def test_a_bundle_whose_papers_cannot_be_read_leaves_nothing(
    shipped: dict[int, Path], tmp_path: Path, settings: Any, name: str, content: bytes
) -> None:
    folder = _changed(shipped[1] / TASK / "en", tmp_path, name, content)
    with pytest.raises(BundleError, match="cannot be read"):
        services.install(folder)
    assert not ModelVersion.objects.exists()
    assert not any(Path(settings.BUNDLE_ROOT).glob("*"))


def test_what_a_bundle_says_was_measured_here_is_not_believed(shipped: dict[int, Path], tmp_path: Path) -> None:
    told = b'{"evaluated_here": {"f": {"a": "x"}}, "sets": {}}'
    folder = _changed(shipped[1] / TASK / "en", tmp_path, "metrics.json", told)
    assert services.install(folder).metrics == {"sets": {}}


def test_a_wish_that_came_just_after_it_was_fulfilled_goes(shipped: dict[int, Path]) -> None:
    version = services.install(shipped[1] / TASK / "en")
    services.activate(version)
    services.want(version)
    assert services.settle(version) is None
    assert not services.wanted().exists()


def _changed(bundle: Path, folder: Path, name: str, content: bytes) -> Path:
    """A copy of a bundle with another file in it, its digest too."""
    copied = shutil.copytree(bundle, folder / "changed")
    (copied / name).write_bytes(content)
    manifest = json.loads((copied / "config.json").read_text())
    manifest["digests"][name] = hashlib.sha256(content).hexdigest()
    (copied / "config.json").write_text(json.dumps(manifest))
    return copied
