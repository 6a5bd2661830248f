"""Jobs, feedback, keys, workers and queues in the admin. What people wrote is not in the list of jobs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from unfold.admin import StackedInline
from unfold.widgets import UnfoldAdminSelectWidget

from mlcore import task as tasks
from webapp.control.base import ActingAdmin, LongList, ReadOnlyAdmin
from webapp.jobs import feedback, keys, queries, services
from webapp.jobs.models import ApiKey, Batch, Feedback, Job, JobContent, Queue, Worker


class _AgeFilter(admin.SimpleListFilter):
    """By age: a range of an index, unlike the days of a date hierarchy, which are counted first."""

    title = "age"
    parameter_name = "age"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("hour", "the last hour"), ("day", "the last day"), ("week", "the last week"), ("older", "older")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        spans = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}
        if self.value() == "older":
            return queryset.filter(created_at__lt=timezone.now() - spans["week"])
        span = spans.get(self.value() or "")
        return queryset.filter(created_at__gte=timezone.now() - span) if span else queryset


class _TaskFilter(admin.SimpleListFilter):
    """By task, out of those there are: Django would ask a million rows which they name."""

    title = parameter_name = "task"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, tasks.get(name).title) for name in tasks.names()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        return queryset.filter(task=self.value()) if self.value() else queryset


class _QueueFilter(admin.SimpleListFilter):
    """By queue, likewise."""

    title = parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in settings.QUEUES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        return queryset.filter(queue=self.value()) if self.value() else queryset


class _ContentInline(StackedInline):  # type: ignore[misc]
    model = JobContent
    can_delete = False
    readonly_fields = ("inputs", "options", "output", "partial", "error_field", "error_message")

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(Job)
class JobAdmin(ActingAdmin, LongList):
    """Jobs, newest first."""

    list_display = ("short", "version", "status", "queue", "attempts", "created_at", "finished_at")
    list_filter = ("status", _TaskFilter, _QueueFilter, "bulk", _AgeFilter, "version")
    search_fields = ("=id", "=user__username")
    ordering = ("-created_at",)
    list_select_related = ("version",)
    inlines = (_ContentInline,)
    actions = ("cancel", "requeue")

    @admin.display(description="job")
    def short(self, job: Job) -> str:
        """Enough of its id to tell it from its neighbours."""
        return str(job.pk)[:8]

    @admin.action(description="Cancel", permissions=["act"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """Stop what is queued or running."""
        stopped = services.cancel_all(queryset)
        self.on_record(request, stopped, "cancelled")
        self.message_user(request, f"{len(stopped)} jobs cancelled.")

    @admin.action(description="Requeue: run again from the start", permissions=["act"])
    def requeue(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """Run finished jobs again."""
        again = [job for job in queryset if services.requeue(job)]
        self.on_record(request, again, "queued again")
        self.message_user(request, f"{len(again)} jobs queued again.")


@admin.register(Batch)
class BatchAdmin(ReadOnlyAdmin):
    """What was sent together."""

    list_display = ("id", "task", "variant", "total", "created_at")


@admin.register(Feedback)
class FeedbackAdmin(ActingAdmin):
    """Better answers that people proposed."""

    list_display = ("task", "version", "right", "review", "asked", "ours", "theirs", "created_at")
    list_filter = ("review", "right", "task")
    search_fields = ("asked", "theirs")
    ordering = ("-created_at",)
    list_select_related = ("version",)
    actions = ("accept", "dismiss", "export")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What people said may hold what nobody ought to keep."""
        return request.user.has_perm("jobs.delete_feedback")

    @admin.action(description="Accept", permissions=["act"])
    def accept(self, request: HttpRequest, queryset: QuerySet[Feedback]) -> None:
        """Mark as right."""
        self._review(request, queryset, Feedback.Review.ACCEPTED)

    @admin.action(description="Dismiss", permissions=["act"])
    def dismiss(self, request: HttpRequest, queryset: QuerySet[Feedback]) -> None:
        """Mark as no better."""
        self._review(request, queryset, Feedback.Review.DISMISSED)

    def _review(self, request: HttpRequest, queryset: QuerySet[Feedback], review: Feedback.Review) -> None:
        rows = list(queryset.exclude(review=review))
        Feedback.objects.filter(pk__in=[row.pk for row in rows]).update(review=review)
        self.on_record(request, rows, review.label)
        self.message_user(request, f"{len(rows)} {review.label}.")

    @admin.action(description="Export for training", permissions=["act"])
    def export(self, request: HttpRequest, queryset: QuerySet[Feedback]) -> HttpResponse | None:
        """A zip to be unpacked into a data folder, where the recipes read it."""
        files, used = feedback.training_files(queryset)
        if not files:
            self.message_user(
                request,
                "Nothing here can teach a model: accept remarks first. Captions, tags and stories have no format.",
                messages.ERROR,
            )
            return None
        self.on_record(request, used, "exported for training")
        self.message_user(
            request,
            f"{len(used):,} remarks exported, {queryset.count() - len(used):,} left out: not accepted, without a "
            "better answer, said twice, or of a task without a training format.",
        )
        response = HttpResponse(feedback.archive(files), content_type="application/zip")
        response.headers["Content-Disposition"] = 'attachment; filename="feedback.zip"'
        return response


@admin.register(ApiKey)
class ApiKeyAdmin(ActingAdmin):
    """Keys of people's programs; the secret is not here."""

    list_display = ("name", "user", "prefix", "daily_limit", "used_on", "used_today", "last_used_at", "revoked_at")
    list_filter = ("revoked_at",)
    search_fields = ("name", "prefix", "user__username")
    list_select_related = ("user",)
    exclude = ("digest",)
    actions = ("revoke",)

    @admin.action(description="Revoke", permissions=["act"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        """End the chosen keys."""
        ended = [key for key in queryset if keys.revoke(key)]
        self.on_record(request, ended, "revoked")
        self.message_user(request, f"{len(ended)} revoked.")


@admin.register(Queue)
class QueueAdmin(ActingAdmin):
    """Queues that an operator paused once; a queue that is not here is served."""

    list_display = ("name", "paused", "by", "changed_at")
    list_select_related = ("by",)
    actions = ("pause", "resume")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Adding a queue pauses it."""
        return request.user.has_perm("jobs.add_queue")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Only the name is chosen."""
        return ["name", "paused", "by", "changed_at"] if obj else ["name"]

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        """One of the queues there are."""
        if db_field.name == "name":
            taken = set(Queue.objects.values_list("name", flat=True))
            free = [(name, name) for name in settings.QUEUES if name not in taken]
            return forms.ChoiceField(
                choices=free,
                widget=UnfoldAdminSelectWidget,
                help_text="Its jobs wait from now on, until you resume it.",
            )
        return super().formfield_for_dbfield(db_field, request, **options)

    def save_model(self, request: HttpRequest, obj: Queue, form: Any, change: bool) -> None:
        """Who paused it is on record."""
        obj.by = request.user  # type: ignore[assignment]
        super().save_model(request, obj, form, change)

    @admin.action(description="Pause: jobs wait, what runs is finished", permissions=["act"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Queue]) -> None:
        """Take no more jobs of these."""
        self._set(request, queryset, paused=True)

    @admin.action(description="Resume", permissions=["act"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Queue]) -> None:
        """Take jobs of these again."""
        self._set(request, queryset, paused=False)

    def _set(self, request: HttpRequest, queryset: QuerySet[Queue], *, paused: bool) -> None:
        said = "paused: its jobs are kept and wait" if paused else "resumed"
        for queue in queryset:
            Queue.objects.filter(pk=queue.pk).update(paused=paused, by=request.user, changed_at=timezone.now())
            self.log_change(request, queue, f"{queue} {said}")
            self.message_user(request, f"{queue} {said}.")


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    """Worker processes; those silent for a while are dead, and their rows go in time."""

    list_display = (
        "name",
        "alive",
        "serves",
        "memory",
        "versions",
        "jobs_a_minute",
        "mean_batch",
        "last_error",
    )
    exclude = ("stats",)
    list_fullwidth = True

    @admin.display(description="queues")
    def serves(self, worker: Worker) -> str:
        """Names of its queues."""
        return ", ".join(worker.queues)

    @admin.display(description="alive since", ordering="started_at")
    def alive(self, worker: Worker) -> str:
        """Since when; or since when it is silent."""
        if timezone.now() - worker.seen_at > timedelta(seconds=queries.ALIVE_S):
            return f"silent since {timezone.localtime(worker.seen_at):%d %b %H:%M}"
        return f"{timezone.localtime(worker.started_at):%d %b %H:%M}"

    @admin.display(description="memory", ordering="memory_mb")
    def memory(self, worker: Worker) -> str:
        """Resident, and what it computes on."""
        return f"{worker.memory_mb:,} MB, {worker.device}"

    @admin.display(description="loaded versions")
    def versions(self, worker: Worker) -> str:
        """What it holds, and what it is about to hold."""
        loading = [f"{worker.loading} (loading)"] if worker.loading else []
        return ", ".join([*worker.loaded, *loading]) or "none"

    @admin.display(description="jobs a minute")
    def jobs_a_minute(self, worker: Worker) -> str:
        """Mean since it started."""
        minutes = max((worker.seen_at - worker.started_at).total_seconds() / 60, 1 / 60)
        return f"{worker.jobs_done / minutes:.1f}"

    @admin.display(description="mean batch")
    def mean_batch(self, worker: Worker) -> str:
        """Rows that shared a step, over all tasks."""
        rows = [task["rows"] for task in worker.stats.values()]
        steps = sum(sum(histogram["counts"]) for histogram in rows)
        return f"{sum(histogram['sum'] for histogram in rows) / steps:.1f}" if steps else ""
