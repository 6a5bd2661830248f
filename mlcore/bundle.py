"""Bundle: a checked, immutable folder with everything that serving a trained model needs. Torch-free.

config.json          format, task, variant, version, model, config, preprocessing, licence, tensors, digests
weights.safetensors  float32, float16, or int8 with a float32 `NAME::scale` a row
examples.json        the bundle's own self-test: inputs, options, outputs and a tolerance
metrics.json card.md and what the task needs (tokenizer.model, labels.json, words.txt ...)
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import BundleError

FORMAT = 1
WEIGHTS = "weights.safetensors"
SCALE = "::scale"
_REQUIRED = (
    "format",
    "task",
    "variant",
    "version",
    "model",
    "config",
    "preprocessing",
    "licence",
    "tensors",
    "digests",
)
_MAX_FILE = 1 << 30  # bytes
_DTYPES = {"F32": np.float32, "F16": np.float16, "I8": np.int8}


def shipped_root() -> Path:
    """Where the bundles that come with the project lie."""
    return Path(__file__).parent / "bundles"


def shipped() -> list[Path]:
    """Folders of the shipped bundles, in order."""
    found = (path.parent for path in shipped_root().glob("*/*/config.json"))
    return sorted(path for path in found if not path.name.startswith("."))  # what a killed `write` left is none


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: `manifest` is config.json, already checked against the files beside it."""

    path: Path
    manifest: Mapping[str, Any]
    digest: str  # SHA-256 of config.json, which holds the digests of all other files

    @classmethod
    def open(cls, path: Path) -> Bundle:
        """Open and check: format, required keys, file names, sizes and SHA-256 digests; else BundleError."""
        path = Path(path)
        try:
            raw = (path / "config.json").read_bytes()
            manifest = json.loads(raw)
        except (OSError, ValueError, RecursionError) as error:
            raise BundleError(f"{path} is no bundle: its config.json cannot be read ({error}).") from error
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise BundleError(f"{path}: this version reads bundles of format {FORMAT} only.")
        missing = [key for key in _REQUIRED if key not in manifest]
        if missing:
            raise BundleError(f"{path}: config.json lacks {', '.join(missing)}.")
        if not isinstance(manifest["digests"], dict) or not all(map(_is_text, manifest["digests"].values())):
            raise BundleError(f"{path}: “digests” in config.json is an object of SHA-256 sums by file name.")
        version = manifest["version"]
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise BundleError(f"{path}: “version” in config.json is a whole number from 1.")
        if not isinstance(manifest["config"], dict):
            raise BundleError(f"{path}: “config” in config.json is an object.")
        if not isinstance(manifest["tensors"], dict) or not all(map(_is_tensor, manifest["tensors"].values())):
            raise BundleError(f"{path}: “tensors” in config.json is an object of [dtype, shape] by name.")
        if WEIGHTS not in manifest["digests"]:
            raise BundleError(f"{path}: config.json names no digest for {WEIGHTS}.")
        for name, digest in manifest["digests"].items():
            _check_file(path, name, digest)
        return cls(path, manifest, hashlib.sha256(raw).hexdigest())

    @property
    def task(self) -> str:
        """Name of the task that it serves."""
        return str(self.manifest["task"])

    @property
    def variant(self) -> str:
        """The kind of bundle among those of its task."""
        return str(self.manifest["variant"])

    @property
    def version(self) -> int:
        """Number of this variant's training."""
        return int(self.manifest["version"])

    @property
    def label(self) -> str:
        """`task/variant@N`, as people read it."""
        return f"{self.task}/{self.variant}@{self.version}"

    @property
    def config(self) -> Mapping[str, Any]:
        """Arguments of the model's Config."""
        return self.manifest["config"]  # type: ignore[no-any-return]

    def read(self, name: str) -> bytes:
        """The bytes of one of its files."""
        if name not in self.manifest["digests"]:
            raise BundleError(f"{self.label} holds no file {name!r}.")
        return (self.path / name).read_bytes()

    def read_json(self, name: str) -> Any:
        """One of its JSON files."""
        return json.loads(self.read(name))

    @cached_property
    def card(self) -> str:
        """The model card, Markdown; empty where there is none."""
        return self.read("card.md").decode() if "card.md" in self.manifest["digests"] else ""

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """metrics.json; empty where there is none."""
        return dict(self.read_json("metrics.json")) if "metrics.json" in self.manifest["digests"] else {}

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum((self.path / name).stat().st_size for name in self.manifest["digests"])

    def check_header(self) -> None:
        """Hold the safetensors header against config.json's own list of tensors."""
        found = read_header(self.path / WEIGHTS)
        declared = {name: (dtype, tuple(shape)) for name, (dtype, shape) in self.manifest["tensors"].items()}
        if found != declared:
            wrong = sorted(name for name in found.keys() | declared.keys() if found.get(name) != declared.get(name))
            raise BundleError(f"{self.label}: {WEIGHTS} does not hold what config.json says: {', '.join(wrong[:5])}.")

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """All tensors as float32; int8 ones are expanded by their rows' scales."""
        from safetensors.numpy import load_file

        self.check_header()
        stored = load_file(self.path / WEIGHTS)
        return {
            name: _expand(value, stored.get(name + SCALE)) for name, value in stored.items() if not name.endswith(SCALE)
        }

    @classmethod
    def write(
        cls,
        path: Path,
        *,
        manifest: Mapping[str, Any],
        weights: Mapping[str, NDArray[Any]],
        files: Mapping[str, bytes],
    ) -> Bundle:
        """Write a bundle beside `path` and move it there whole: readers see all of it or nothing.

        `manifest` lacks format, tensors and digests, which are worked out here. An existing folder is replaced.
        """
        from safetensors.numpy import save_file

        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            for name, content in files.items():
                (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                (temporary / name).write_bytes(content)
            save_file({name: np.ascontiguousarray(value) for name, value in weights.items()}, temporary / WEIGHTS)
            (temporary / WEIGHTS).chmod(0o644)  # safetensors lets nobody else read what it writes
            header = read_header(temporary / WEIGHTS)
            whole = {
                "format": FORMAT,
                **manifest,
                "tensors": {name: [dtype, list(shape)] for name, (dtype, shape) in sorted(header.items())},
                "digests": {name: file_digest(temporary / name) for name in sorted([*files, WEIGHTS])},
            }
            (temporary / "config.json").write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", "utf-8")
            temporary.chmod(0o755)
            cls.open(temporary)
            old = path.with_name(f".{path.name}-old")
            if path.exists():
                shutil.rmtree(old, ignore_errors=True)
                os.replace(path, old)
            try:
                os.replace(temporary, path)
            except OSError:
                if old.exists():
                    os.replace(old, path)
                raise
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return cls.open(path)


def quantise(value: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weight-only int8 with one scale a row: value (R, ...) -> int8 of that shape and scales (R,)."""
    rows = np.abs(value.reshape(len(value), -1)).max(axis=1)
    scale = np.where(rows > 0, rows / 127, 1.0).astype(np.float32)
    shaped = scale.reshape(-1, *[1] * (value.ndim - 1))
    return np.round(value / shaped).astype(np.int8), scale


def _expand(value: NDArray[Any], scale: NDArray[Any] | None) -> NDArray[np.float32]:
    if scale is None:
        return value.astype(np.float32)
    return value.astype(np.float32) * scale.reshape(-1, *[1] * (value.ndim - 1))  # type: ignore[no-any-return]


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """{tensor: (dtype, shape)} of a safetensors file, read without loading it; BundleError when malformed."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, 10 << 20):
            raise BundleError(f"{path.name} is no safetensors file: its header is {length} bytes long.")
        try:
            header = json.loads(file.read(length))
            found = {
                name: (str(entry["dtype"]), tuple(entry["shape"]))
                for name, entry in header.items()
                if name != "__metadata__"
            }
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise BundleError(f"{path.name} has a malformed safetensors header.") from error
    strange = sorted({dtype for dtype, _ in found.values()} - _DTYPES.keys())
    if strange:
        raise BundleError(f"{path.name} holds tensors of type {', '.join(strange)}; allowed: {', '.join(_DTYPES)}.")
    return found


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[1], list)


def _check_file(folder: Path, name: str, digest: str) -> None:
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts or name == "config.json":
        raise BundleError(f"{folder}: config.json names a file {name!r}, which a bundle may not hold.")
    file = folder / name
    if not file.is_file() or file.is_symlink():
        raise BundleError(f"{folder}: the file {name} is missing.")
    if file.stat().st_size > _MAX_FILE:
        raise BundleError(f"{folder}: {name} is larger than {_MAX_FILE >> 20} MiB.")
    if file_digest(file) != digest:
        raise BundleError(f"{folder}: {name} is damaged: its SHA-256 digest is not the one in config.json.")
