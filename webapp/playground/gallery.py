"""My photos: what a visitor sent, by tag and by word; deleting."""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import UUID

from django.core.paginator import Paginator
from django.db.models import Prefetch, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_POST, require_safe

from mlcore.tasks.image_tagging import NO_TAG
from webapp.jobs import files, services
from webapp.jobs.models import File, Job, Status
from webapp.jobs.owners import Owner, owner_of, owner_who_reads
from webapp.playground import forms
from webapp.playground.photos import CAPTIONS, TAGS

_PAGE = 24
_TAGGED_JOBS = 2_000  # jobs whose tags the filter lists


@require_safe
@ensure_csrf_cookie
def gallery(request: HttpRequest) -> HttpResponse:
    """The visitor's photos, newest first: by tag, by a word of the caption."""
    owner = owner_who_reads(request)
    words, tag = (request.GET.get(name, "").replace("\0", "")[:100].strip() for name in ("q", "tag"))
    found = File.objects.filter(owner.query, media="image", jobs__isnull=False)
    if words:
        found = found.filter(jobs__task=CAPTIONS, jobs__answer__icontains=words)
    if tag:
        found = found.filter(_has_tag(tag), jobs__task=TAGS)
    asked = Prefetch("jobs", Job.objects.order_by("created_at"), to_attr="asked")
    newest = found.distinct().order_by("-created_at").prefetch_related(asked)
    shown = Paginator(newest, _PAGE).get_page(request.GET.get("page"))
    chosen = {"q": words, "tag": tag}
    context = {
        "page": shown,
        "rows": [_row(file) for file in shown.object_list],
        "tags": _known_tags(owner),
        "chosen": chosen,
        "query": forms.query_of(chosen),
        "filtered": bool(words or tag),
    }
    return render(request, "playground/gallery.html", context)


def _row(file: File) -> dict[str, Any]:
    jobs: dict[str, Job] = {job.task: job for job in file.asked}  # type: ignore[attr-defined]  # the newest of each task
    captioned, tagged = jobs.get(CAPTIONS), jobs.get(TAGS)
    return {
        "photo": file,
        "caption": captioned.answer if captioned else "",
        "tags": tagged.answer.split(", ")[:4] if tagged and tagged.answer not in ("", NO_TAG) else [],
        "state": "" if any(job.answer for job in jobs.values()) else next(iter(jobs.values())).get_status_display(),
    }


def _has_tag(tag: str) -> Q:
    """Whether a job's answer, likely tags with commas between, holds this one as a whole."""
    column = "jobs__answer"
    return (
        Q(**{column: tag})
        | Q(**{f"{column}__startswith": f"{tag}, "})
        | Q(**{f"{column}__endswith": f", {tag}"})
        | Q(**{f"{column}__contains": f", {tag}, "})
    )


def _known_tags(owner: Owner) -> list[tuple[str, int]]:
    """Tags of the visitor's photos with how many have them, the commonest first."""
    rows = Job.objects.filter(owner.query, task=TAGS, status=Status.SUCCEEDED).exclude(answer__in=("", NO_TAG))
    answers = rows.order_by("-created_at").values_list("answer", flat=True)[:_TAGGED_JOBS]
    return Counter(tag for answer in answers for tag in answer.split(", ")).most_common(60)


@require_POST
def delete(request: HttpRequest) -> HttpResponse:
    """Erase the photos that were ticked, with all that was asked about them; others' are passed over."""
    owner = owner_of(request)
    for value in request.POST.getlist("photo")[:500]:
        try:
            file = File.objects.filter(owner.query, pk=UUID(value)).first()
        except ValueError:
            continue
        if file is None:
            continue
        for job in list(file.jobs.all()):
            services.erase(job)
        files.erase(File.objects.filter(pk=file.pk))
    return redirect("photos")
