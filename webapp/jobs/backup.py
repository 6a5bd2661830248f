"""An installation in one file, and back: rows, uploads, bundles.

Left out are the record of actions in the admin, sessions (everybody signs in again) and the secret key: without the old
one, links to jobs that nobody owns open no more.
Rows are Django's own serialisation (a line an object), so a backup of SQLite can be restored into PostgreSQL and back.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.core.files.base import File as DjangoFile
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.db import connection, transaction

from webapp.jobs.models import File, Job

ROWS = "rows.jsonl"
_LEFT_OUT = ("contenttypes", "auth.permission", "sessions", "admin.logentry", "jobs.worker")


class BackupError(Exception):
    """Why it cannot be done; the message is for people."""


def write(path: Path) -> dict[str, int]:
    """Write a .tar.gz; returns how many rows of jobs, files and bundles it holds."""
    if path.exists():
        raise BackupError(f"{path} is there already. Name another file.")
    partial = path.with_name(f".{path.name}.part")
    count = 0
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    with tempfile.TemporaryDirectory() as folder, tarfile.open(partial, "w:gz") as archive, _one_moment():
        rows = Path(folder) / ROWS
        call_command("dumpdata", format="jsonl", output=str(rows), exclude=_LEFT_OUT, natural_foreign=True, verbosity=0)
        archive.add(rows, ROWS)
        for key in File.objects.values_list("key", flat=True).iterator():
            if default_storage.exists(key):
                with default_storage.open(key) as stored:
                    entry = tarfile.TarInfo(f"files/{key}")
                    entry.size = stored.size
                    archive.addfile(entry, stored)
                count += 1
        bundles = [
            folder for folder in sorted(Path(settings.BUNDLE_ROOT).glob("*")) if (folder / "config.json").exists()
        ]
        for bundle in bundles:
            archive.add(bundle, f"bundles/{bundle.name}")
    partial.rename(path)
    return {"jobs": Job.objects.count(), "files": count, "bundles": len(bundles)}


@contextmanager
def _one_moment() -> Iterator[None]:
    """What is read inside is of one moment, so that no row names one that is missing; nobody's writing waits for it."""
    if connection.in_atomic_block:
        yield
        return
    mode = "ISOLATION LEVEL REPEATABLE READ, READ ONLY" if connection.vendor == "postgresql" else "DEFERRED"
    with connection.cursor() as cursor:
        cursor.execute(f"BEGIN {mode}")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("COMMIT")


def restore(path: Path) -> dict[str, int]:
    """Fill an empty installation from a backup; BackupError when it is not empty or the file is none."""
    call_command("migrate", verbosity=0)  # a database that nothing ever used is an empty installation too
    if Job.objects.exists() or File.objects.exists():
        raise BackupError("This installation holds jobs already. Restore into an empty one (a fresh UNROLL_STATE).")
    try:
        archive = tarfile.open(path, "r:gz")  # noqa: SIM115 - closed below
        names = archive.getnames()
    except (OSError, tarfile.TarError, EOFError) as error:
        raise BackupError(f"{path} is no backup: {error}") from error
    if ROWS not in names:
        raise BackupError(f"{path} is no backup of Unroll: it holds no {ROWS}.")
    with archive, tempfile.TemporaryDirectory() as folder:
        _extract(archive, [archive.getmember(ROWS)], Path(folder))
        with transaction.atomic():
            _empty()
            call_command("loaddata", str(Path(folder) / ROWS), verbosity=0)
            files = _files(archive)  # where they do not fit, no row stays either, and restoring may begin again
            bundles = _bundles(archive)
    return {"jobs": Job.objects.count(), "files": files, "bundles": bundles}


def _extract(archive: tarfile.TarFile, members: list[tarfile.TarInfo], root: Path) -> None:
    """Unpack plain files and folders; BackupError for anything else, and for what would lie outside."""
    for entry in members:
        path = Path(entry.name)
        if path.is_absolute() or ".." in path.parts or not (entry.isfile() or entry.isdir()):
            raise BackupError(f"The backup names {entry.name!r}, which it may not hold.")
    if hasattr(tarfile, "data_filter"):  # Python 3.11.4
        archive.extractall(root, members, filter="data")
    else:
        archive.extractall(root, members)


def _empty() -> None:
    """Remove what a first start made by itself (installed versions): the backup brings its own."""
    from webapp.registry.models import Activation, ModelVersion

    Activation.objects.all().delete()
    ModelVersion.objects.all().delete()
    if connection.vendor == "postgresql":
        connection.check_constraints()


def _files(archive: tarfile.TarFile) -> int:
    count = 0
    for entry in archive.getmembers():
        if entry.isfile() and entry.name.startswith("files/"):
            stored = archive.extractfile(entry)
            assert stored is not None
            key = entry.name.removeprefix("files/")
            if ".." in Path(key).parts or Path(key).is_absolute():
                raise BackupError(f"The backup names a file {key!r} outside the storage.")
            if not default_storage.exists(key):
                default_storage.save(key, DjangoFile(io.BytesIO(stored.read())))
            count += 1
    return count


def _bundles(archive: tarfile.TarFile) -> int:
    root = Path(settings.BUNDLE_ROOT).parent
    members = [entry for entry in archive.getmembers() if entry.name.startswith("bundles/")]
    _extract(archive, members, root)
    return len({entry.name.split("/")[1] for entry in members if "/" in entry.name})
