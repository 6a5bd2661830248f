"""Taking files in: what they are, how large, whose share they use."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import uuid
from collections.abc import Iterable
from pathlib import Path

from django.conf import settings
from django.core.files import File as DjangoFile
from django.core.files.storage import default_storage
from django.db.models import Sum

from mlcore.errors import InvalidInput
from mlcore.media import document, image
from webapp.jobs.models import File
from webapp.jobs.owners import Owner


def store(chunks: Iterable[bytes], *, owner: Owner, field: str = "file", name: str = "", wanted: str = "") -> File:
    """Keep an upload; InvalidInput when it is nothing that is read, too large, beyond the owner's share, or the disk
    is full. `wanted` is the kind of file that it must be ("image", "document", "labelled"); empty allows the first two.
    """
    _check_room(owner, field)
    digest = hashlib.sha256()
    size, media = 0, ""
    with tempfile.TemporaryFile() as spool:
        for chunk in chunks:
            if not media and chunk:
                media = _media(chunk[:512], name, field, wanted)
            size += len(chunk)
            limit = document.MAX_BYTES if media == "document" else settings.MAX_UPLOAD_BYTES
            if size > limit:
                raise InvalidInput(field, f"The file is larger than {limit >> 20} MB. Make it smaller.")
            digest.update(chunk)
            spool.write(chunk)
        if size == 0:
            _media(b"", name, field, wanted)
        spool.seek(0)
        random = uuid.uuid4().hex
        key = f"uploads/{random[:2]}/{random}"
        row = {"sha256": digest.hexdigest(), "size": size, "media": media, "name": plain_name(name), **owner.columns()}
        try:
            key = default_storage.save(key, DjangoFile(spool))
            return File.objects.create(key=key, **row)
        except Exception:  # bytes that no row names would stay for ever
            default_storage.delete(key)
            raise


def _media(head: bytes, name: str, field: str, wanted: str) -> str:
    """What kind of file begins with `head`; InvalidInput in words for what is none that is read."""
    if wanted == "labelled":
        return wanted  # an operation's: what is in it is looked at when it is read
    if wanted != "document" and image.identify(head[:32]):
        return "image"
    if wanted == "document" or (not wanted and Path(name.lower()).suffix in document.SUFFIXES):
        document.check_head(name, head, field)
        return "document"
    image.check_head(head[:32], field)
    return "image"


def plain_name(name: str) -> str:
    """A file's own name without folders and control characters."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    plain = "".join(character for character in last if character.isprintable()).lstrip(".")
    stem, dot, suffix = plain.rpartition(".") if "." in plain else (plain, "", "")
    # file systems take 255 bytes, and the answer's name is a little longer
    return stem.encode()[:160].decode("utf-8", "ignore") + dot + suffix[:16]


def used_bytes(owner: Owner) -> int:
    """What an owner's files take."""
    return int(File.objects.filter(owner.quota_query).aggregate(total=Sum("size"))["total"] or 0)


def _check_room(owner: Owner, field: str) -> None:
    free = shutil.disk_usage(settings.STATE_DIR).free >> 20
    if free < settings.MIN_FREE_DISK_MB:
        raise InvalidInput(field, "The server's disk is nearly full, so it takes no uploads. Tell its operator.")
    used = used_bytes(owner)
    if used >= settings.UPLOAD_QUOTA_MB << 20:
        raise InvalidInput(
            field,
            f"Your uploads take {used >> 20:,} MB; at most {settings.UPLOAD_QUOTA_MB:,} MB are kept. "
            "Delete photos or jobs that you no longer need; what no job names, by DELETE /api/v1/uploads/ID.",
        )
