"""Bundles that somebody uploads: unpacked under limits and looked at before anything of them is installed."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from mlcore.bundle import Bundle
from mlcore.errors import BundleError

MAX_BYTES = 200 << 20  # of the archive
MAX_UNPACKED = 400 << 20
MAX_FILES = 500
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib")


@contextmanager
def unpacked(chunks: Iterable[bytes]) -> Iterator[Path]:
    """The folder of the bundle in a zip archive, checked (digests, header), for as long as it is looked at.

    BundleError says what is wrong; nothing stays on disk.
    """
    with tempfile.TemporaryDirectory(prefix="unroll-quarantine-") as folder:
        archive = Path(folder) / "upload.zip"
        size = 0
        with archive.open("wb") as file:
            for chunk in chunks:
                size += len(chunk)
                if size > MAX_BYTES:
                    raise BundleError(f"The archive is larger than {MAX_BYTES >> 20} MB.")
                file.write(chunk)
        root = Path(folder) / "bundle"
        root.mkdir()
        _unpack(archive, root)
        found = _bundle_folder(root)
        Bundle.open(found).check_header()
        yield found


def _unpack(archive: Path, root: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = opened.infolist()
            if len(entries) > MAX_FILES or sum(entry.file_size for entry in entries) > MAX_UNPACKED:
                raise BundleError(f"The archive unpacks to more than {MAX_UNPACKED >> 20} MB or {MAX_FILES} files.")
            for entry in entries:
                _check_entry(entry)
                if not entry.is_dir():
                    target = root.joinpath(*PurePosixPath(entry.filename).parts)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with opened.open(entry) as source, target.open("wb") as file:
                        shutil.copyfileobj(source, file)  # which ends at the size that was declared
    except BundleError:
        raise
    except Exception as error:  # zipfile and the decompressors (zlib.error) raise whatever a broken archive led them to
        raise BundleError(f"The file is no zip archive that can be unpacked: {error}") from error


def _check_entry(entry: zipfile.ZipInfo) -> None:
    path = PurePosixPath(entry.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in entry.filename or not path.parts or ":" in path.parts[0]:
        raise BundleError(f"The archive names a file outside of itself: {entry.filename[:100]!r}.")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise BundleError(f"The archive holds a link ({entry.filename[:100]!r}); a bundle is plain files.")
    if entry.flag_bits & 1:
        raise BundleError("The archive is encrypted. Make it without a password.")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # zipfile unpacks others without a limit
        raise BundleError("The archive is packed in an unusual way. Make it with zip's own method (deflate).")
    if path.suffix.lower() in _PICKLES:
        raise BundleError(
            f"{path.name[:60]} may hold a pickle, which runs code when it is read. Weights are weights.safetensors."
        )


def _bundle_folder(root: Path) -> Path:
    """Where config.json lies: at the top, or in the only folder there."""
    if (root / "config.json").is_file():
        return root
    inside = [path for path in root.iterdir() if path.name != "__MACOSX"]
    if len(inside) == 1 and (inside[0] / "config.json").is_file():
        return inside[0]
    raise BundleError("The archive holds no bundle: there is no config.json at its top or in its only folder.")
