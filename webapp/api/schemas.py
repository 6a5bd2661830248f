"""Shapes of what comes in and goes out, for checks and for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from ninja import Schema
from pydantic import ConfigDict, Field

from mlcore import task as tasks
from webapp.jobs import owners, queries
from webapp.jobs.models import Batch, Job

_TASK = tasks.get(tasks.names()[0])  # the document shows requests that work
StatusName = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class JobIn(Schema):
    """A request to run a task."""

    model_config = ConfigDict(extra="forbid")
    task: str = Field(examples=[_TASK.name])
    variant: str | None = None
    inputs: dict[str, Any] = Field(examples=[_TASK.examples[0].inputs])
    options: dict[str, Any] | None = None
    stream: bool = Field(False, description="answer with the job's events (text/event-stream) instead of the job")


class UploadOut(Schema):
    """A stored file; `id` goes into a job's inputs."""

    id: str
    size: int = Field(description="bytes")
    sha256: str


class FeedbackIn(Schema):
    """A better answer."""

    theirs: str = Field(description="what it should have been", max_length=2_000)
    part: int | None = Field(None, description="which part (sentence) of the answer, from 0; none is all of it", ge=0)


class FeedbackOut(Schema):
    """What was stored."""

    part: int | None
    ours: str
    theirs: str


class KeyOut(Schema):
    """The day of an API key."""

    name: str
    daily_limit: int | None = Field(description="jobs a day; none is no limit")
    used_today: int
    resets_at: datetime


class LimitsOut(Schema):
    """What a caller may send; a task may have a limit a person and day beside."""

    key: KeyOut | None
    batch_items: int
    waiting_jobs: int
    upload_bytes: int = Field(description="of a photo")
    document_bytes: int
    uploads_kept_bytes: int
    uploads_used_bytes: int


class BatchIn(Schema):
    """Many requests of one task; `items` are `{"inputs", "options"?}`."""

    model_config = ConfigDict(extra="forbid")
    task: str = Field(examples=[_TASK.name])
    variant: str | None = None
    options: dict[str, Any] | None = None
    items: list[Any] = Field(examples=[[{"inputs": example.inputs} for example in _TASK.examples[:2]]])


class ErrorDetail(Schema):
    """What is wrong: the field at fault, if one is, and a sentence."""

    field: str | None
    message: str


class ErrorOut(Schema):
    """Every 4xx and 5xx."""

    error: ErrorDetail


REFUSALS: dict[int, Any] = dict.fromkeys((400, 401, 403, 404, 413, 415, 422, 429, 503), ErrorOut)


class Progress(Schema):
    """How far a long job is."""

    done: int
    total: int
    unit: str


class JobOut(Schema):
    """A job and all that is known of it."""

    id: UUID
    task: str
    variant: str
    version: str
    status: StatusName
    inputs: dict[str, Any]
    options: dict[str, Any]
    output: Any
    partial: Any
    progress: Progress | None
    error: ErrorDetail | None
    waiting: str | None = Field(description="why it is not answered yet, in words")
    position: int | None
    eta_s: int | None
    attempts: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    model_time_s: float | None
    urls: dict[str, str]
    notices: list[str] = []


class JobPage(Schema):
    """Some of the caller's jobs, newest first; `next` continues the list."""

    jobs: list[JobOut]
    next: str | None


class BatchOut(Schema):
    """A batch and how its jobs stand."""

    id: UUID
    counts: dict[str, int]
    urls: dict[str, str]


class BatchCreated(Schema):
    """A new batch; `jobs` in the order of the items, `{"error"}` where an item was refused."""

    batch: BatchOut
    jobs: list[Any]


class TaskOut(Schema):
    """A task with JSON Schemas of its inputs, options and output."""

    name: str
    aliases: list[str]
    title: str
    summary: str
    caution: str
    variants: list[str]
    default_variant: str
    available: bool
    licence: str | None
    schemas: dict[str, Any]


def _suffix(row: Job | Batch) -> str:
    """The signed token of a row that nobody owns: the only door to it."""
    return "" if row.user_id is not None or row.session else f"?token={owners.make_token(row.pk)}"


def job_urls(job: Job) -> dict[str, str]:
    """Addresses of a job, relative to the server."""
    base, token = f"/api/v1/jobs/{job.pk}", _suffix(job)
    return {
        "get": base + token,
        "cancel": f"{base}/cancel{token}",
        "events": f"{base}/events{token}",
        "page": f"/jobs/{job.pk}/{token}",
    }


def batch_urls(batch: Batch) -> dict[str, str]:
    """Addresses of a batch, relative to the server."""
    base, token = f"/api/v1/batches/{batch.pk}", _suffix(batch)
    return {
        "get": base + token,
        "cancel": f"{base}/cancel{token}",
        "events": f"{base}/events{token}",
        "csv": f"{base}/output.csv{token}",
        "page": f"/batches/{batch.pk}/{token}",
    }


def job_error(job: Job) -> dict[str, Any] | None:
    """Why a job failed."""
    content = job.content
    return {"field": content.error_field or None, "message": content.error_message} if content.error_message else None


def jobs_json(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Jobs as the API shows them; their contents must have been fetched with them."""
    waits = queries.waiting_all(jobs)
    return [_job_json(job, waits[job.pk]) for job in jobs]


def job_json(job: Job, *, notices: list[str] | None = None) -> dict[str, Any]:
    """As `jobs_json`, of one, with what is said of the request."""
    return {**_job_json(job, queries.waiting(job)), "notices": notices or []}


def _job_json(job: Job, wait: queries.Waiting | None) -> dict[str, Any]:
    content = job.content
    progress = None
    if job.progress_total is not None:
        progress = {"done": job.progress_done or 0, "total": job.progress_total, "unit": job.progress_unit}
    return {
        "id": job.pk,
        "task": job.task,
        "variant": job.variant,
        "version": str(job.version),
        "status": job.status,
        "inputs": content.inputs,
        "options": content.options,
        "output": content.output,
        "partial": content.partial,
        "progress": progress,
        "error": job_error(job),
        "waiting": wait.sentence if wait else None,
        "position": wait.position if wait else None,
        "eta_s": wait.eta_s if wait else None,
        "attempts": job.attempts,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "model_time_s": job.model_time_s,
        "urls": job_urls(job),
        "notices": [],
    }


def batch_json(batch: Batch) -> dict[str, Any]:
    """A batch as the API shows it."""
    return {"id": batch.pk, "counts": queries.counts(batch), "urls": batch_urls(batch)}
