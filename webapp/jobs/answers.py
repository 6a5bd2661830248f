"""What a worker writes of a job that it runs: progress, parts of an answer, the answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import InterfaceError, OperationalError, transaction

from mlcore import task as tasks
from webapp.jobs import events, products, services
from webapp.jobs.models import Job, JobContent, Status
from webapp.jobs.running import Held

logger = logging.getLogger(__name__)
KEEP_PARTIAL_S = 1.0


@dataclass(frozen=True)
class Answer:
    """What a worker computed for a job."""

    job: Job
    output: dict[str, Any]
    model_time_s: float
    rows: int  # of the largest forward pass that it was part of


def succeed(answers: Sequence[Answer]) -> tuple[list[Job], list[Job]]:
    """Store the answers of one step; returns the jobs that were still this worker's, and those that cannot be stored.

    One transaction: with SQLite each one queues for the file, beside every request that writes. An answer with files
    has one of its own, for writing them may fail.
    """
    answers = sorted(answers, key=lambda answer: answer.job.pk)  # locked in one order, whoever locks them
    plain = [answer for answer in answers if not products.held_in(answer.output)]
    with transaction.atomic():
        kept = [answer.job for answer in plain if _succeed(answer)]
    lost: list[Job] = []
    for answer in answers:
        if products.held_in(answer.output):
            made: list[str] = []
            try:
                with transaction.atomic():
                    if _succeed(answer, made):
                        kept.append(answer.job)
            except Exception as error:
                products.discard(made)
                if isinstance(error, OperationalError | InterfaceError):
                    raise  # the database is away or locked: the job is tried again
                logger.exception("the files of job %s cannot be stored", answer.job.pk)
                lost.append(answer.job)
    return kept, lost


def _succeed(answer: Answer, made: list[str] | None = None) -> bool:
    """Store one answer; `made` gets the keys of the files that it brings."""
    words = tasks.get(answer.job.task).headline_of_output(answer.output)[:120]
    columns = {"answer": words, "model_time_s": round(answer.model_time_s, 4), "batch_rows": answer.rows}
    if not services.finish(answer.job, Status.SUCCEEDED, columns=columns, content={"partial": None}):
        return False
    output = products.keep(answer.output, job=answer.job, made=[] if made is None else made)
    JobContent.objects.filter(pk=answer.job.pk).update(output=output)
    return True


def keep_partial(job: Job, event: Any, held: Held) -> list[events.Entry]:
    """Add what a step found to what is known of an answer; returns what to tell.

    It is stored, and pages are told to look, at most once a second. `event` is an engine's Partial.
    """
    spec = tasks.get(job.task)
    fresh = {place: part for place, part in event.parts.items() if part}
    for place, part in fresh.items():
        held.parts[str(place)] = spec.merge_part(held.parts.get(str(place), {}), part)
    told: list[events.Entry] = [
        (job.pk, "delta", {"index": place, "part": part}, job.attempts) for place, part in fresh.items()
    ]
    if time.monotonic() - held.stored >= KEEP_PARTIAL_S:
        held.stored = time.monotonic()
        note_progress(job, held.parts, done=event.done, total=event.total, unit=spec.unit)
        progress = {"done": event.done, "total": event.total, "unit": spec.unit}
        told.append((job.pk, "progress", progress, job.attempts))
    return told


def note_progress(job: Job, parts: dict[str, Any], *, done: int, total: int, unit: str) -> bool:
    """Store how far a running job is and what is known of its answer; False when it is no longer this worker's."""
    with transaction.atomic():
        mine = Job.objects.filter(pk=job.pk, status=Status.RUNNING, lease_token=job.lease_token).update(
            progress_done=done, progress_total=total, progress_unit=unit[:20]
        )
        if mine and parts:
            JobContent.objects.filter(pk=job.pk).update(partial={"parts": parts})
    return bool(mine)
