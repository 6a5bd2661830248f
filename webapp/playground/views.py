"""Home, task pages, results. Each view finds, asks a service, shows."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_POST, require_safe

from mlcore import task as tasks
from mlcore.errors import InvalidInput
from mlcore.media import document
from mlcore.media.photo_task import PhotoTask
from webapp.jobs import feedback, files, intake, services, submission
from webapp.jobs.models import File, Job
from webapp.jobs.owners import owner_for_page, owner_of, owner_who_reads
from webapp.playground import forms, lookup, panels, photos, uploads
from webapp.playground.lookup import posted
from webapp.registry.services import ModelUnavailable, active, installed_tasks


def _task(page: str) -> tasks.Task:
    for spec in map(tasks.get, tasks.names()):
        if page in (spec.page, spec.name, *spec.aliases):
            return spec
    raise Http404


def _form_task(page: str) -> tasks.Task:
    """A task with a form of its own: photos have another page."""
    spec = _task(page)
    if spec.page == PhotoTask.page:
        raise Http404
    return spec


def _unavailable(spec: tasks.Task) -> str:
    try:
        active(spec.name, spec.default_variant)
    except (ModelUnavailable, InvalidInput) as error:
        return str(error)
    return ""


def _page(request: HttpRequest, spec: tasks.Task, status: int = 200, **context: Any) -> HttpResponse:
    shared = {
        "task": spec,
        "unavailable": _unavailable(spec),
        "max_lines": settings.MAX_BATCH_ITEMS,
        "list_bytes": uploads.MAX_BYTES,
        "document_bytes": document.MAX_BYTES,
    }
    return render(request, "playground/task.html", {**shared, **context}, status=status)


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """What Unroll can do."""
    shown = [(spec, _unavailable(spec)) for spec in installed_tasks()]
    return render(request, "playground/home.html", {"tasks": shown})


@require_safe
@ensure_csrf_cookie
def task_page(request: HttpRequest, page: str) -> HttpResponse:
    """An empty form, an empty result."""
    spec = _task(page)
    if spec.page == PhotoTask.page:
        query = request.META.get("QUERY_STRING", "")
        return redirect(reverse("drop-photos") + (f"?{query}" if query else ""))
    remembered = feedback.remembered(spec, owner=owner_who_reads(request))
    return _page(request, spec, form=forms.bound(spec, options=remembered))


@posted("task", "page")
def run(request: HttpRequest, page: str) -> HttpResponse:
    """Submit the form: the result panel for htmx, the result's address for everybody else."""
    spec = _form_task(page)
    inputs, options = forms.read(spec, request.POST)
    try:
        owner = owner_for_page(request)
        checked = submission.check(spec.name, inputs, options, owner=owner)
        job = submission.submit(checked, owner=owner)
        feedback.remember(spec, checked.options, owner=owner)
    except (InvalidInput, ModelUnavailable, submission.QueueFull) as error:
        return _refused(request, spec, inputs, options, error)
    if not request.htmx:  # type: ignore[attr-defined]
        return redirect("job", pk=job.pk)
    response = render(request, "playground/_panel.html", panels.context(lookup.find(request, Job, job.pk)))
    response["HX-Push-Url"] = reverse("job", args=[job.pk])
    response["HX-Retarget"] = "#result"  # looked up when this arrives: an earlier job's panel may have been swapped
    return response


def _refused(
    request: HttpRequest, spec: tasks.Task, inputs: dict[str, Any], options: dict[str, Any], error: Exception
) -> HttpResponse:
    field = error.field if isinstance(error, InvalidInput) else ""
    message = error.message if isinstance(error, InvalidInput) else str(error)
    form = forms.bound(spec, inputs, options, errors={field: message})
    if request.htmx:  # type: ignore[attr-defined]
        response = render(request, "playground/refused.html", {"task": spec, "form": form})
        response["HX-Reswap"] = "none"  # only the fields, out of band: what is shown of another job stays
        return response
    return _page(request, spec, 422, form=form)


def _options(request: HttpRequest, spec: tasks.Task) -> dict[str, Any]:
    """The options of a small form: those that it has, and what this visitor used last of those that are remembered."""
    sent = {name: value for name, value in forms.read(spec, request.POST)[1].items() if value is not None}
    return {**feedback.remembered(spec, owner=owner_of(request)), **sent}


@posted("task", "page")
def run_batch(request: HttpRequest, page: str) -> HttpResponse:
    """Submit a list of texts; the batch has its own page."""
    spec = _form_task(page)
    if not spec.many:
        raise Http404
    try:
        texts = uploads.read_texts(request.POST.get("lines", ""), request.FILES.get("file"), column=spec.many)
        items = [{"inputs": {spec.many: text}} for text in texts]
        options = _options(request, spec)
        batch, _ = submission.submit_batch(spec.name, items, options=options, owner=owner_for_page(request))
    except (InvalidInput, ModelUnavailable, submission.QueueFull) as error:
        message = error.message if isinstance(error, InvalidInput) else str(error)
        lines = request.POST.get("lines", "")
        form = forms.bound(spec, options=_options(request, spec))
        return _page(request, spec, 422, form=form, batch_error=message, lines=lines)
    return redirect("batch", pk=batch.pk)


@posted("task", "page")
def run_document(request: HttpRequest, page: str) -> HttpResponse:
    """Submit a document with the options beside it; the job has its own page."""
    spec = _form_task(page)
    field = spec.document_input
    if not field:
        raise Http404
    try:
        sent = request.FILES.get(field)
        if sent is None:
            raise InvalidInput(field, "A file is missing. Choose one.")
        owner = owner_for_page(request)
        file = intake.store(sent.chunks(), owner=owner, field=field, name=sent.name or "", wanted="document")
        options = _options(request, spec)
        try:
            checked = submission.check(spec.name, {field: str(file.pk)}, options, owner=owner)
            job = submission.submit(checked, owner=owner)
        except Exception:
            files.erase([file])
            raise
    except (InvalidInput, ModelUnavailable, submission.QueueFull) as error:
        message = error.message if isinstance(error, InvalidInput) else str(error)
        form = forms.bound(spec, options=_options(request, spec))
        return _page(request, spec, 422, form=form, document_error=message)
    return redirect("job", pk=job.pk)


@require_safe
def file(request: HttpRequest, pk: UUID) -> FileResponse:
    """A document, for whoever may open it; never shown by the browser itself."""
    found = File.objects.filter(pk=pk, media="document").first()
    if found is None or not files.may_open(found, owner=owner_of(request), token=request.GET.get("token", "")):
        raise Http404
    return files.attachment(found)


@require_safe
@ensure_csrf_cookie
def job_page(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The task's page with a job's inputs and its result; survives reload and restart."""
    return _show_job(request, lookup.find(request, Job, pk))


def _show_job(request: HttpRequest, job: Job, status: int = 200, **context: Any) -> HttpResponse:
    spec = tasks.get(job.task)
    if spec.page == PhotoTask.page:
        return photos.show_job(request, job, status, **context)
    # what is kept for the next time is the newest: running an old job's form must not put its own in the place
    options = {**spec.options_again(job.content.options), **feedback.remembered(spec, owner=owner_of(request))}
    shown = panels.context(job, token=request.GET.get("token", ""))
    return _page(request, spec, status, form=forms.bound(spec, job.content.inputs, options), **{**shown, **context})


@require_safe
def job_panel(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The result as it stands now."""
    return _show_panel(request, pk)


def _show_panel(request: HttpRequest, pk: UUID) -> HttpResponse:
    job = lookup.find(request, Job, pk)
    if tasks.get(job.task).page == PhotoTask.page:
        return render(request, "playground/_photo.html", photos.of_job(request, job))
    return render(request, "playground/_panel.html", panels.context(job, token=request.GET.get("token", "")))


@require_safe
def download(request: HttpRequest, pk: UUID) -> HttpResponse:
    """The answer as a text file."""
    job: Job = lookup.find(request, Job, pk)
    spec = tasks.get(job.task)
    text = spec.text_of_output(job.content.output) if job.content.output else ""
    if not text:
        raise Http404
    response = HttpResponse(text, content_type="text/plain; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{spec.name}-{str(pk)[:8]}.txt"'
    return response


@posted("job", "pk")
def judge(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Whether an answer was right: thanks, and where it was not, a field for what is."""
    job: Job = lookup.find(request, Job, pk)
    try:
        judged = feedback.judge(job, request.POST.get("right"), owner=owner_for_page(request))
    except InvalidInput as error:
        return _judged(request, job, 422, judgement_error=error.message)
    if judged.right and not request.htmx:  # type: ignore[attr-defined]
        messages.success(request, "Thank you.")
        return lookup.to_page(request, "job", pk)
    return _judged(request, job, judged=judged, proposal=judged.ours)


def _judged(request: HttpRequest, job: Job, status: int = 200, **context: Any) -> HttpResponse:
    """The judgement alone for htmx, for everybody else the page with it."""
    if not request.htmx:  # type: ignore[attr-defined]
        return _show_job(request, job, status, **context)
    shared = {"job": job, "token": request.GET.get("token", "")}
    return render(request, "playground/_judgement.html", {**shared, **context})


@posted("job", "pk")
def propose(request: HttpRequest, pk: UUID) -> HttpResponse:
    """A better answer to a job, or to one part of it: thanks, or what is wrong with it, in a sentence."""
    job: Job = lookup.find(request, Job, pk)
    proposed, part = request.POST.get("theirs", "").replace("\r\n", "\n"), request.POST.get("part")
    shared = {"job": job, "part": part, "token": request.GET.get("token", "")}
    try:
        feedback.propose(job, proposed, part=part, owner=owner_for_page(request))
    except InvalidInput as error:
        context = {"proposal": proposed, "proposal_error": error.message}
        if request.htmx:  # type: ignore[attr-defined]
            return render(request, "playground/_proposal.html", {**shared, **context})
        if part is None:
            return _show_job(request, job, 422, judged={"right": False}, **context)
        messages.error(request, error.message)
        return lookup.to_page(request, "job", pk)
    if request.htmx:  # type: ignore[attr-defined]
        return render(request, "playground/_proposal.html", {**shared, "thanks": True})
    messages.success(request, "Thank you. An administrator will read it.")
    return lookup.to_page(request, "job", pk)


@require_POST
def cancel_job(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Stop a job and show how it stands."""
    services.cancel(lookup.find(request, Job, pk))
    return lookup.back(request, "job", pk) or _show_panel(request, pk)
