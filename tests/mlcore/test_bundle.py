"""A bundle is whole or refused by name."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from mlcore import bundle as bundles
from mlcore.bundle import Bundle, quantise
from mlcore.errors import BundleError
from mlcore.predictor import load_model


@pytest.fixture
def copy(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle.path, tmp_path / "bundle"))


def edit(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_one_flipped_byte_is_found(copy: Path) -> None:
    path = copy / "weights.safetensors"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(BundleError, match=r"weights\.safetensors is damaged"):
        Bundle.open(copy)


def test_a_missing_file_is_named(copy: Path) -> None:
    (copy / "tokenizer.model").unlink()
    with pytest.raises(BundleError, match=r"tokenizer\.model is missing"):
        Bundle.open(copy)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "config.json", ""])
def test_names_outside_the_folder_are_refused(copy: Path, name: str) -> None:
    digests = json.loads((copy / "config.json").read_text())["digests"]
    edit(copy, digests={**digests, name: "0" * 64})
    with pytest.raises(BundleError, match="may not hold"):
        Bundle.open(copy)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"format": 99}', '{"format": 1}'])
def test_a_strange_config_is_refused(copy: Path, text: str) -> None:
    (copy / "config.json").write_text(text)
    with pytest.raises(BundleError):
        Bundle.open(copy)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"digests": ["weights.safetensors"]}, "digests"),
        ({"digests": {"weights.safetensors": 7}}, "digests"),
        ({"version": "v1"}, "version"),
        ({"version": 0}, "version"),
        ({"config": []}, "config"),
        ({"tensors": []}, "tensors"),
        ({"tensors": {"a": "F32"}}, "tensors"),
    ],
)
def test_keys_of_another_kind_are_refused(copy: Path, changes: dict[str, object], words: str) -> None:
    edit(copy, **changes)
    with pytest.raises(BundleError, match=words):
        Bundle.open(copy)


def test_an_unknown_model_is_refused_and_the_known_ones_named(copy: Path) -> None:
    edit(copy, model="gpt-99")
    with pytest.raises(BundleError, match="lstm-classifier"):
        load_model(Bundle.open(copy))


def test_a_config_that_does_not_fit_is_refused(copy: Path, tiny_bundle: Bundle) -> None:
    edit(copy, config={**tiny_bundle.config, "hidden_dim": 17})
    with pytest.raises(BundleError, match="does not fit"):
        load_model(Bundle.open(copy))


def test_tensors_other_than_declared_are_refused(copy: Path, tiny_bundle: Bundle) -> None:
    edit(copy, tensors={**tiny_bundle.manifest["tensors"], "extra": ["F16", [1]]})
    with pytest.raises(BundleError, match="extra"):
        Bundle.open(copy).weights()


def test_a_header_that_lies_about_its_length_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes((1 << 60).to_bytes(8, "little") + b"{}")
    with pytest.raises(BundleError, match="no safetensors"):
        bundles.read_header(path)


def test_int8_rows_come_back_within_half_a_step(tmp_path: Path) -> None:
    value = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    stored, scale = quantise(value)
    manifest = dict.fromkeys(("task", "variant", "model", "licence"), "x") | {
        "version": 1, "config": {}, "preprocessing": {},
    }  # fmt: skip
    written = Bundle.write(
        tmp_path / "b", manifest=manifest, weights={"w": stored, "w::scale": scale}, files={"card.md": b"x"}
    )
    found = written.weights()
    assert list(found) == ["w"]
    assert np.abs(found["w"] - value).max() <= scale.max() / 2 + 1e-6


def test_the_shipped_bundles_are_whole_and_answer_as_stored() -> None:
    from mlcore.predictor import Predictor, self_test

    folders = bundles.shipped()
    assert folders, "the project ships no bundle"
    for folder in folders:
        found = Bundle.open(folder)
        assert found.size <= 40e6
        assert found.card
        assert found.path.parts[-2:] == (found.task, found.variant)
        self_test(Predictor(found))


def test_what_a_killed_write_left_is_not_shipped(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "shipped_root", lambda: tmp_path / "bundles")
    for name in ("en", ".en-old", ".en-x1"):
        shutil.copytree(copy, tmp_path / "bundles" / "sentiment-analysis" / name)
    assert [path.name for path in bundles.shipped()] == ["en"]


def test_a_bundle_stays_where_the_new_one_cannot_be_moved(
    copy: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, replace = Bundle.open(copy).digest, os.replace

    def fails(source: Path, target: Path) -> None:
        if target == copy and not source.name.endswith("-old"):
            raise OSError("no room")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails)
    kept = {name: tiny_bundle.read(name) for name in tiny_bundle.manifest["digests"] if name != bundles.WEIGHTS}
    manifest = {k: v for k, v in tiny_bundle.manifest.items() if k not in ("format", "tensors", "digests")}
    weights = {name: np.asarray(value) for name, value in tiny_bundle.weights().items()}
    with pytest.raises(OSError, match="no room"):
        Bundle.write(copy, manifest={**manifest, "version": 9}, weights=weights, files=kept)
    assert Bundle.open(copy).digest == before
    assert [path.name for path in copy.parent.iterdir() if path.name.startswith(".bundle")] == []
