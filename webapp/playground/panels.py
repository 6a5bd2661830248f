"""What the result panel shows: the state in words, and when it is done the answer as a strip."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.template import TemplateDoesNotExist
from django.template.loader import get_template
from django.urls import reverse
from django.utils import timezone

from mlcore import task as tasks
from mlcore.task import Strip
from webapp.jobs import files, queries
from webapp.jobs.models import File, Job, Status

_TINTS = 5  # steps of the scale on each side
_STOPPING_S = 15  # for so long what was written until a stop may still come, from its worker or from what it stored


def context(job: Job, *, token: str = "") -> dict[str, Any]:
    """Everything `_panel.html` needs; `job.content` must have been fetched."""
    spec = tasks.get(job.task)
    output = job.content.output
    return {
        "job": job,
        "task": spec,
        "token": token,
        "waiting": queries.waiting(job),
        "output": output,
        "whole_text": spec.text_of_output(output) if output is not None else "",
        "language": spec.language_of_output(job.content.options),
        "partial": _partial(job),
        "partial_template": own_template("results", f"{spec.name}.partial"),
        "strip": strip_parts(spec.strip(job.content.inputs, output)) if output is not None else None,
        "result_template": result_template(spec.name),
        "took": duration(job.model_time_s),
        "is_stopping": _is_stopping(job),
        "shared": job.shares.first() if output is not None else None,
        "is_live": job.status in (Status.QUEUED, Status.RUNNING),
    }


def file_url(pk: str) -> str:
    """Where a job's photo is shown; one that nobody owns opens with its token, as its job did."""
    file = File.objects.filter(pk=pk).first()
    if file is None:
        return ""
    _, _, token = files.public_id(file).partition(":")
    return reverse("photo", args=[file.pk]) + (f"?token={token}" if token else "")


def _is_stopping(job: Job) -> bool:
    """Whether what was written of a job until it was stopped, a moment ago, may still come."""
    recent = job.finished_at is not None and timezone.now() - job.finished_at < timedelta(seconds=_STOPPING_S)
    return bool(job.status == Status.CANCELLED and job.started_at and recent and tasks.get(job.task).streams)


def _partial(job: Job) -> list[Any]:
    """The parts of an answer that are known already, in order."""
    parts = (job.content.partial or {}).get("parts", {})
    return [parts[place] for place in sorted(parts, key=int)]


def own_template(folder: str, name: str) -> str:
    """`<folder>/<name>.html` where it exists, else nothing."""
    own = f"{folder}/{name}.html"
    try:
        get_template(own)
    except TemplateDoesNotExist:
        return ""
    return own


def result_template(name: str) -> str:
    """`results/<task>.html` where it exists, else the default."""
    return own_template("results", name) or "results/_default.html"


def duration(seconds: float | None) -> str:
    """A time as people say it."""
    if seconds is None:
        return ""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def strip_parts(strip: Strip) -> dict[str, Any]:
    """The strip's text cut into cells and what lies between them, each cell with its tint class."""
    parts: list[dict[str, Any]] = []
    place = 0
    for cell in strip.cells:
        if cell.start > place:
            parts.append({"gap": strip.text[place : cell.start]})
        text = strip.text[cell.start : cell.end]
        shown = "" if text.strip() else "↵" if "\n" in text else "␣"  # what stands for a blank that can be opened
        parts.append({"text": text, "blank": shown, "tint": tint_class(cell.tint), "detail": cell.detail, "cell": cell})
        place = cell.end
    if place < len(strip.text):
        parts.append({"gap": strip.text[place:]})
    return {
        "parts": parts,
        "kind": strip.kind,
        "low": strip.low,
        "high": strip.high,
        "hint": strip.hint,
        "value": strip.value,
    }


def tint_class(tint: float) -> str:
    """`for-3`, `against-2` or nothing: five steps on each side."""
    step = min(_TINTS, round(abs(tint) * _TINTS))
    if not step:
        return ""
    return f"{'for' if tint > 0 else 'against'}-{step}"
