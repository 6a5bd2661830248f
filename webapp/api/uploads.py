"""Files and proposals over HTTP."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import FileResponse, Http404, HttpRequest
from ninja import File, Router
from ninja.files import UploadedFile

from mlcore.errors import InvalidInput
from webapp.api.access import caller, open_job
from webapp.api.schemas import REFUSALS, FeedbackIn, FeedbackOut, UploadOut
from webapp.jobs import feedback, files

router = Router()


@router.post("/uploads", response={201: UploadOut, **REFUSALS}, tags=["uploads"], summary="Upload a file")
def create_upload(request: HttpRequest, file: File[UploadedFile]) -> tuple[int, dict[str, Any]]:
    """Keep a photo or document, to be named by its id in a job's inputs. Without account or session the id opens it."""
    stored = files.store(file.chunks(), owner=caller(request), name=file.name or "")
    return 201, {"id": files.public_id(stored), "size": stored.size, "sha256": stored.sha256}


@router.get("/files/{file_id}", tags=["uploads"], summary="Download a document", response=REFUSALS)
def download_file(request: HttpRequest, file_id: str, token: str = "") -> FileResponse:
    """A document of yours, or one that a job of yours made; its id may carry its token, as uploads' ids do."""
    named = file_id if ":" in file_id or not token else f"{file_id}:{token}"
    try:
        found = files.open_named(named, owner=caller(request), field="file_id")
    except InvalidInput as error:
        raise Http404 from error
    if found.media != "document":
        raise Http404
    return files.attachment(found)


@router.post(
    "/jobs/{uuid:job_id}/feedback", response={201: FeedbackOut, **REFUSALS}, tags=["jobs"], summary="Propose better"
)
def propose(request: HttpRequest, job_id: UUID, payload: FeedbackIn, token: str = "") -> tuple[int, dict[str, Any]]:
    """What the answer, or one part of it, should have been; administrators review it."""
    job = open_job(request, job_id)
    stored = feedback.propose(job, payload.theirs, part=payload.part, owner=caller(request))
    return 201, {"part": stored.part, "ours": stored.ours, "theirs": stored.theirs}
