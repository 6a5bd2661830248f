"""Uploaded files: taken in under limits, opened by their owners only, handed to workers as local paths."""

from __future__ import annotations

import base64
import binascii
import hashlib
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files import File as DjangoFile
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db.models import Q, Sum

from mlcore.errors import InvalidInput
from mlcore.media import decoder, image
from mlcore.task import JSON, Task
from webapp.jobs.models import File
from webapp.jobs.owners import Owner, make_token, token_opens

_SIDES = {"large": 1_600, "small": 400}  # pixels of the longer side of what pages show


def store(chunks: Iterable[bytes], *, owner: Owner, field: str = "file") -> File:
    """Keep an upload; InvalidInput when it is no photo, too large, beyond the owner's share, or the disk is full."""
    _check_room(owner, field)
    digest = hashlib.sha256()
    size = 0
    with tempfile.TemporaryFile() as spool:
        for chunk in chunks:
            if size == 0:
                image.check_head(chunk[:32], field)
            size += len(chunk)
            if size > settings.MAX_UPLOAD_BYTES:
                raise InvalidInput(
                    field, f"The file is larger than {settings.MAX_UPLOAD_BYTES >> 20} MB. Make it smaller."
                )
            digest.update(chunk)
            spool.write(chunk)
        if size == 0:
            image.check_head(b"", field)
        spool.seek(0)
        name = uuid.uuid4().hex
        key = default_storage.save(f"uploads/{name[:2]}/{name}", DjangoFile(spool))
    return File.objects.create(sha256=digest.hexdigest(), size=size, key=key, **owner.columns())


def _check_room(owner: Owner, field: str) -> None:
    free = shutil.disk_usage(settings.STATE_DIR).free >> 20
    if free < settings.MIN_FREE_DISK_MB:
        raise InvalidInput(field, "The server's disk is nearly full, so it takes no uploads. Tell its operator.")
    used = File.objects.filter(owner.quota_query).aggregate(total=Sum("size"))["total"] or 0
    if used >= settings.UPLOAD_QUOTA_MB << 20:
        raise InvalidInput(
            field,
            f"Your uploads take {used >> 20:,} MB; at most {settings.UPLOAD_QUOTA_MB:,} MB are kept. Delete some.",
        )


def public_id(file: File) -> str:
    """How a request names a file: its id, for a file without an owner with the signed token that opens it."""
    return f"{file.pk}:{make_token(file.pk)}" if _is_nobodys(file) else str(file.pk)


def _is_nobodys(file: File) -> bool:
    return file.user_id is None and not file.session


def open_named(name: Any, *, owner: Owner, field: str) -> File:
    """The file that a request names; InvalidInput where there is none or it is somebody else's."""
    missing = InvalidInput(field, "There is no upload of this id, or it is not yours. Upload the file first.")
    text, _, token = str(name).partition(":")
    try:
        file = File.objects.filter(pk=uuid.UUID(text)).first()
    except ValueError:
        raise missing from None
    if file is None or not may_open(file, owner=owner, token=token):
        raise missing
    return file


def may_open(file: File, *, owner: Owner, token: str = "") -> bool:
    """Whether the owner, or the bearer of this token, may see a file."""
    if _is_nobodys(file):
        return bool(token) and token_opens(token, file.pk)
    return bool(
        (owner.user_id is not None and file.user_id == owner.user_id)
        or (owner.session and file.user_id is None and file.session == owner.session)
    )


def take(task: Task, inputs: Any, *, owner: Owner) -> tuple[Any, list[File]]:
    """Inputs with the plain ids of their files, and the files; `{"base64": ...}` becomes a file first."""
    if not task.file_inputs or not isinstance(inputs, dict):
        return inputs, []
    cleaned, found = dict(inputs), []
    for name in task.file_inputs:
        value = inputs.get(name)
        if value is None:
            continue  # the field itself says that it is missing
        file = (
            _from_base64(value, owner, name) if isinstance(value, dict) else open_named(value, owner=owner, field=name)
        )
        cleaned[name] = str(file.pk)
        found.append(file)
    return cleaned, found


def _from_base64(value: dict[str, Any], owner: Owner, field: str) -> File:
    text = value.get("base64")
    if set(value) != {"base64"} or not isinstance(text, str):
        raise InvalidInput(field, "Name an upload by its id, or send {“base64”: “...”}.")
    if len(text) > settings.MAX_BASE64_BYTES * 4 // 3 + 4:
        limit = settings.MAX_BASE64_BYTES >> 20
        raise InvalidInput(field, f"In JSON a file may have {limit} MB; larger ones go to /api/v1/uploads first.")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(field, "This is no base64.") from error
    return store([data], owner=owner, field=field)


@contextmanager
def local_path(pk: str, field: str = "file") -> Iterator[Path]:
    """A path on this machine that holds the file's bytes; InvalidInput when it was deleted meanwhile."""
    file = File.objects.filter(pk=pk).first()
    if file is None or not default_storage.exists(file.key):
        raise InvalidInput(field, "The upload was deleted. Send it again.")
    try:
        path = Path(default_storage.path(file.key))
    except NotImplementedError:  # a storage elsewhere, as S3: fetched for the time of reading
        with tempfile.NamedTemporaryFile() as copy, default_storage.open(file.key) as source:
            shutil.copyfileobj(source, copy)
            copy.flush()
            yield Path(copy.name)
    else:
        yield path


@contextmanager
def located(task: Task, inputs: JSON) -> Iterator[JSON]:
    """The inputs with local paths in place of ids, for as long as they are read."""
    with ExitStack() as stack:
        paths = {name: str(stack.enter_context(local_path(inputs[name], name))) for name in task.file_inputs}
        yield {**inputs, **paths}


def shown(file: File, *, small: bool = False) -> bytes:
    """The photo as pages show it: encoded anew, upright, without metadata; made once and kept."""
    size = "small" if small else "large"
    key = _shown_key(file, size)
    if default_storage.exists(key):
        with default_storage.open(key) as kept:
            return bytes(kept.read())
    with local_path(str(file.pk)) as path:
        data = decoder.shared().to_show(path, _SIDES[size])
    default_storage.save(key, ContentFile(data))
    return data


def _shown_key(file: File, size: str) -> str:
    return f"shown/{file.key.removeprefix('uploads/')}-{size}.webp"


def erase(files: Iterable[File]) -> None:
    """Delete files that no job names any more, with what is shown of them."""
    for file in files:
        if not file.jobs.exists():
            file.delete()
            for key in (file.key, *(_shown_key(file, size) for size in _SIDES)):
                default_storage.delete(key)


def orphans(before: Any) -> Iterable[File]:
    """Files older than that which no job names."""
    return File.objects.filter(Q(jobs=None), created_at__lt=before)[:500]
