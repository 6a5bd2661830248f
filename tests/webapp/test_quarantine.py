"""Uploaded bundles: good ones come out whole, hostile ones are named and leave nothing behind."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from mlcore.bundle import Bundle
from mlcore.errors import BundleError
from webapp.registry import quarantine


def zipped(folder: Path, *, inside: str = "", extra: dict[str, bytes] | None = None, without: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != without:
                archive.write(path, f"{inside}{path.relative_to(folder)}")
        for name, data in (extra or {}).items():
            archive.writestr(name, data)
    return buffer.getvalue()


def opened(data: bytes) -> str:
    with quarantine.unpacked([data[:1000], data[1000:]]) as folder:
        return Bundle.open(folder).digest


@pytest.mark.parametrize("inside", ["", "my-bundle/"])
def test_a_good_bundle_comes_out_whole(tiny_bundle: Bundle, inside: str) -> None:
    assert opened(zipped(tiny_bundle.path, inside=inside)) == tiny_bundle.digest


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"../evil.txt": b"x"}, "outside of itself"),
        ({"/etc/evil": b"x"}, "outside of itself"),
        ({"a\\..\\evil": b"x"}, "outside of itself"),
        ({"weights.pt": b"x"}, "pickle"),
        ({"model.bin": b"x"}, "pickle"),
        ({"bomb.txt": b"\0" * (401 << 20)}, "unpacks to more"),
    ],
)
def test_hostile_archives_are_refused(tiny_bundle: Bundle, extra: dict[str, bytes], words: str) -> None:
    with pytest.raises(BundleError, match=words):
        opened(zipped(tiny_bundle.path, extra=extra))


def test_what_zipfile_unpacks_without_a_limit_is_refused(tiny_bundle: Bundle) -> None:
    buffer = io.BytesIO(zipped(tiny_bundle.path))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("bomb.txt", b"\0" * (1 << 20), zipfile.ZIP_BZIP2)
    with pytest.raises(BundleError, match="unusual way"):
        opened(buffer.getvalue())


def test_a_link_is_refused(tiny_bundle: Bundle) -> None:
    buffer = io.BytesIO(zipped(tiny_bundle.path))
    with zipfile.ZipFile(buffer, "a") as archive:
        link = zipfile.ZipInfo("card")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(BundleError, match="a link"):
        opened(buffer.getvalue())


def test_broken_and_incomplete_ones_are_named(tiny_bundle: Bundle, tmp_path: Path) -> None:
    whole = zipped(tiny_bundle.path)
    for data, words in (
        (b"no zip at all", "no zip archive"),
        (whole[: len(whole) // 2], "no zip archive"),
        (zipped(tiny_bundle.path, without="config.json"), "no config.json"),
        (zipped(tiny_bundle.path, without="weights.safetensors"), "weights.safetensors is missing"),
        (zipped(tmp_path), "no config.json"),
    ):
        with pytest.raises(BundleError, match=words):
            opened(data)
    changed = tmp_path / "changed"
    changed.mkdir()
    for path in tiny_bundle.path.iterdir():
        (changed / path.name).write_bytes(path.read_bytes())
    (changed / "card.md").write_text("another card")
    with pytest.raises(BundleError, match=r"card\.md is damaged"):
        opened(zipped(changed))


def test_nothing_stays_behind(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    opened(zipped(tiny_bundle.path))
    with pytest.raises(BundleError):
        opened(b"nothing")
    assert list(tmp_path.iterdir()) == []


def test_an_archive_damaged_at_any_byte_is_named_or_whole(tiny_bundle: Bundle) -> None:
    whole = zipped(tiny_bundle.path)
    refused = 0
    for place in range(0, len(whole), len(whole) // 60):
        broken = bytearray(whole)
        broken[place] ^= 0xFF
        try:
            assert opened(bytes(broken)) == tiny_bundle.digest
        except BundleError:
            refused += 1
    assert refused > 30
