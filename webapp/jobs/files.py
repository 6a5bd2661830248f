"""Stored files: opened by their owners only, handed to workers as local paths, shown, erased."""

from __future__ import annotations

import base64
import binascii
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db.models import Q
from django.http import FileResponse, Http404

from mlcore.errors import InvalidInput
from mlcore.media import decoder
from mlcore.task import JSON, Task
from webapp.jobs import intake
from webapp.jobs.models import File
from webapp.jobs.owners import Owner, make_token, token_opens

_SIDES = {"large": 1_600, "small": 400}  # pixels of the longer side of what pages show


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


def take(task: Task, inputs: Any, made: list[File], *, owner: Owner) -> tuple[Any, list[File]]:
    """Inputs with the plain ids of their files, and the files.

    `{"base64": ...}` becomes a file first; those go into `made` too: they are to be erased where no job comes of it.
    """
    if not task.file_inputs or not isinstance(inputs, dict):
        return inputs, []
    cleaned, found = dict(inputs), []
    for name in task.file_inputs:
        value = inputs.get(name)
        if value is None:
            continue  # the field itself says that it is missing
        media: str = task.inputs[name].media  # type: ignore[attr-defined]
        if isinstance(value, dict):
            file = _from_base64(value, owner, name, media)
            made.append(file)
        else:
            file = open_named(value, owner=owner, field=name)
        if file.media != media:
            raise InvalidInput(name, f"This upload is no {'photo' if media == 'image' else media}.")
        cleaned[name] = str(file.pk)
        found.append(file)
    return cleaned, found


def _from_base64(value: dict[str, Any], owner: Owner, field: str, media: str) -> File:
    text, name = value.get("base64"), value.get("name", "")
    if set(value) - {"base64", "name"} or not isinstance(text, str) or not isinstance(name, str):
        raise InvalidInput(field, "Name an upload by its id, or send {“base64”: “...”, “name”: “...”}.")
    if len(text) > settings.MAX_BASE64_BYTES * 4 // 3 + 4:
        limit = settings.MAX_BASE64_BYTES >> 20
        raise InvalidInput(field, f"In JSON a file may have {limit} MB; larger ones go to /api/v1/uploads first.")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(field, "This is no base64.") from error
    return intake.store([data], owner=owner, field=field, name=name, wanted=media)


@contextmanager
def local_path(pk: str, field: str = "file") -> Iterator[Path]:
    """A path on this machine that holds the file's bytes; InvalidInput when it was deleted meanwhile."""
    try:
        file = File.objects.filter(pk=uuid.UUID(str(pk))).first()
    except ValueError:
        raise InvalidInput(field, "This names no upload: its id has 32 digits and letters.") from None
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
    """The inputs with local paths in place of ids, for as long as they are read; a document's path has its name."""
    with ExitStack() as stack:
        paths: JSON = {}
        for name in task.file_inputs:
            if inputs.get(name) is None:
                continue
            path = stack.enter_context(local_path(inputs[name], name))
            if task.inputs[name].media == "document":  # type: ignore[attr-defined]
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                called = folder / (File.objects.get(pk=inputs[name]).name or "document.txt")
                called.symlink_to(path)
                path = called
            paths[name] = str(path)
        yield {**inputs, **paths}


@contextmanager
def located_all(task: Task, requests: list[JSON]) -> Iterator[list[JSON]]:
    """The same for many requests; what names no upload of ours stays as it is, and is refused by the task."""
    with ExitStack() as stack:
        found = []
        for inputs in requests:
            try:
                found.append(stack.enter_context(located(task, inputs)))
            except (InvalidInput, ValueError):
                found.append(inputs)
        yield found


def shown(file: File, *, small: bool = False) -> bytes:
    """The photo as pages show it: encoded anew, upright, without metadata; made once and kept."""
    size = "small" if small else "large"
    key = _shown_key(file, size)
    if default_storage.exists(key):
        with default_storage.open(key) as kept:
            return bytes(kept.read())
    with local_path(str(file.pk)) as path:
        data = decoder.shared().to_show(path, _SIDES[size])
    saved = default_storage.save(key, ContentFile(data))
    if saved != key or not File.objects.filter(pk=file.pk).exists():
        default_storage.delete(saved)  # another request was first, or the photo is gone: nobody would delete it later
    return data


def attachment(file: File) -> FileResponse:
    """The file as it is, to be saved: whatever is in it, no browser shows it as a page of ours."""
    if not default_storage.exists(file.key):
        raise Http404
    name = file.name or f"{file.pk}.txt"
    response = FileResponse(default_storage.open(file.key), as_attachment=True, filename=name)
    response["Content-Type"] = "application/octet-stream"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


def _shown_key(file: File, size: str) -> str:
    return f"shown/{file.key.removeprefix('uploads/')}-{size}.webp"


def erase(files: Iterable[File]) -> None:
    """Delete files that no job names any more, with what is shown of them."""
    for file in files:
        if not file.jobs.exists():
            file.delete()
            erase_bytes(file)


def erase_bytes(file: File) -> None:
    """Delete what the storage holds of a file, and what is shown of it."""
    for key in (file.key, *(_shown_key(file, size) for size in _SIDES)):
        default_storage.delete(key)


def orphans(before: Any) -> Iterable[File]:
    """Files older than that which no job and no operation names."""
    return File.objects.filter(Q(jobs=None, operations=None), created_at__lt=before)[:500]
