"""Files, proposals and limits over HTTP."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import FileResponse, Http404, HttpRequest
from ninja import File, Router
from ninja.files import UploadedFile

from mlcore.errors import InvalidInput
from mlcore.media import document
from webapp.api.access import caller, open_job
from webapp.api.schemas import REFUSALS, FeedbackIn, FeedbackOut, LimitsOut, UploadOut
from webapp.jobs import feedback, files, intake, keys
from webapp.jobs.models import File as Stored

router = Router()


@router.post("/uploads", response={201: UploadOut, **REFUSALS}, tags=["uploads"], summary="Upload a file")
def create_upload(request: HttpRequest, file: File[UploadedFile]) -> tuple[int, dict[str, Any]]:
    """Keep a photo or document, to be named by its id in a job's inputs. Without account or session the id opens it."""
    stored = intake.store(file.chunks(), owner=caller(request), name=file.name or "")
    return 201, {"id": files.public_id(stored), "size": stored.size, "sha256": stored.sha256}


@router.delete("/uploads/{file_id}", response={204: None, **REFUSALS}, tags=["uploads"], summary="Erase a file")
def delete_upload(request: HttpRequest, file_id: str, token: str = "") -> tuple[int, None]:
    """Erase an upload that no job names; what jobs name goes with them. Its id may carry its token."""
    found = _open(request, file_id, token)
    if found.jobs.exists():
        raise InvalidInput("file_id", "A job names this file. Erase the job; its files go with it.")
    if found.operations.exists():
        raise InvalidInput("file_id", "An operation names this file; it goes with that.")
    files.erase([found])
    return 204, None


@router.get("/files/{file_id}", tags=["uploads"], summary="Download a document", response=REFUSALS)
def download_file(request: HttpRequest, file_id: str, token: str = "") -> FileResponse:
    """A document of yours, or one that a job of yours made; its id may carry its token, as uploads' ids do."""
    found = _open(request, file_id, token)
    if found.media != "document":
        raise Http404
    return files.attachment(found)


def _open(request: HttpRequest, file_id: str, token: str) -> Stored:
    named = file_id if ":" in file_id or not token else f"{file_id}:{token}"
    try:
        return files.open_named(named, owner=caller(request), field="file_id")
    except InvalidInput as error:
        raise Http404 from error


@router.post(
    "/jobs/{uuid:job_id}/feedback", response={201: FeedbackOut, **REFUSALS}, tags=["jobs"], summary="Propose better"
)
def propose(request: HttpRequest, job_id: UUID, payload: FeedbackIn, token: str = "") -> tuple[int, dict[str, Any]]:
    """What the answer, or one part of it, should have been; operators review it."""
    job = open_job(request, job_id)
    stored = feedback.propose(job, payload.theirs, part=payload.part, owner=caller(request))
    return 201, {"part": stored.part, "ours": stored.ours, "theirs": stored.theirs}


@router.get("/limits", response={200: LimitsOut, **REFUSALS}, tags=["limits"], summary="Read your limits")
def limits(request: HttpRequest) -> dict[str, Any]:
    """What a caller may send, and of a key how much of its day is left."""
    owner = caller(request)
    key = getattr(request, "api_key", None)
    if key is not None:
        key.refresh_from_db()
    return {
        "key": {
            "name": key.name,
            "daily_limit": key.daily_limit,
            "used_today": keys.used_today(key),
            "resets_at": keys.resets_at(),
        }
        if key
        else None,
        "batch_items": settings.MAX_BATCH_ITEMS,
        "waiting_jobs": settings.MAX_QUEUED_PER_OWNER,
        "upload_bytes": settings.MAX_UPLOAD_BYTES,
        "document_bytes": document.MAX_BYTES,
        "uploads_kept_bytes": settings.UPLOAD_QUOTA_MB << 20,
        "uploads_used_bytes": intake.used_bytes(owner),
    }
