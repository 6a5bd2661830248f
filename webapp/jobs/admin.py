"""Jobs and workers in the admin: read, cancel, requeue. What people wrote is not in the lists."""

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

from webapp.jobs import keys, operation_admin, services
from webapp.jobs.models import ApiKey, Batch, Feedback, Job, JobContent, Worker
from webapp.registry.admin import ActingAdmin, ReadOnlyAdmin


class _UncountedPaginator(Paginator):
    """Lists of a million rows without COUNT(*): says how many pages there may be at most."""

    @cached_property
    def count(self) -> int:
        """A number that is large enough for the pages people turn."""
        return 10_000


class _ContentInline(admin.StackedInline):
    model = JobContent
    can_delete = False
    readonly_fields = ("inputs", "options", "output", "partial", "error_field", "error_message")

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(Job)
class JobAdmin(ActingAdmin):
    """Jobs, newest first."""

    list_display = ("id", "task", "version", "status", "queue", "attempts", "created_at", "finished_at")
    list_filter = ("status", "task", "queue", "bulk")
    search_fields = ("=id",)
    ordering = ("-created_at",)
    list_select_related = ("version",)
    show_full_result_count = False
    paginator = _UncountedPaginator
    inlines = (_ContentInline,)
    actions = ("cancel", "requeue")

    @admin.action(description="Cancel", permissions=["act"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """Stop what is queued or running."""
        stopped = sum(services.cancel(job) for job in queryset)
        self.message_user(request, f"{stopped} jobs cancelled.")

    @admin.action(description="Requeue: run again from the start", permissions=["act"])
    def requeue(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """Run finished jobs again."""
        again = sum(services.requeue(job) for job in queryset)
        self.message_user(request, f"{again} jobs queued again.")


@admin.register(Batch)
class BatchAdmin(ReadOnlyAdmin):
    """What was sent together."""

    list_display = ("id", "task", "variant", "total", "created_at")


@admin.register(Feedback)
class FeedbackAdmin(ActingAdmin):
    """Better answers that people proposed."""

    list_display = ("task", "version", "review", "asked", "ours", "theirs", "created_at")
    list_filter = ("review", "task")
    search_fields = ("asked", "theirs")
    ordering = ("-created_at",)
    list_select_related = ("version",)
    actions = ("accept", "dismiss")

    @admin.action(description="Accept", permissions=["act"])
    def accept(self, request: HttpRequest, queryset: QuerySet[Feedback]) -> None:
        """Mark as right."""
        self.message_user(request, f"{queryset.update(review=Feedback.Review.ACCEPTED)} accepted.")

    @admin.action(description="Dismiss", permissions=["act"])
    def dismiss(self, request: HttpRequest, queryset: QuerySet[Feedback]) -> None:
        """Mark as no better."""
        self.message_user(request, f"{queryset.update(review=Feedback.Review.DISMISSED)} dismissed.")


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
        for key in queryset:
            keys.revoke(key)
        self.message_user(request, "Revoked.")


@admin.register(Worker)
class WorkerAdmin(ReadOnlyAdmin):
    """Living workers."""

    list_display = ("name", "queues", "device", "memory_mb", "loaded", "loading", "rows", "jobs_done", "seen_at")


__all__ = ["operation_admin"]
