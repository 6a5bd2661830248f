"""Model versions in the admin: read, activate, roll back, retire, delete; every switch is on record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from mlcore import task as tasks
from mlcore.errors import BundleError
from webapp.control import rendering
from webapp.control.base import ActingAdmin, ReadOnlyAdmin, ReasonForm
from webapp.jobs import queries, switching
from webapp.registry import services
from webapp.registry.models import Activation, ModelVersion, TaskSetting

_STEPS = {
    "evaluate": "evaluate on a labelled file",
    "compare": "compare with another version",
    "replay": "replay answered jobs",
    "check": "run its self-test",
}


@admin.register(ModelVersion)
class ModelVersionAdmin(ActingAdmin):
    """Installed bundles."""

    list_display = ("__str__", "state", "shipped", "loaded_at", "installed_at", "fault")
    list_filter = ("task", "variant", "status")
    action_form = ReasonForm
    actions = ("activate", "roll_back", "retire", "remove")
    fieldsets = (
        (None, {"fields": ("label", "state", "fault", "loaded_at", "next_steps")}),
        ("Files", {"fields": ("architecture", "size_mb", "digest", "shipped", "installed_at", "licence")}),
        ("Evaluated here", {"fields": ("evaluated",)}),
        ("Card", {"fields": ("rendered_card",)}),
    )

    @admin.display(description="status", ordering="status")
    def state(self, version: ModelVersion) -> str:
        """The status, and what is under way."""
        if version.wanted_at:
            return f"{version.get_status_display()}, workers load it to let it answer"
        if version.retired_at:
            return f"{version.get_status_display()}, retired"
        return version.get_status_display()

    @admin.display(description="loaded in")
    def loaded_at(self, version: ModelVersion) -> str:
        """Names of the living workers that hold it."""
        label = str(version)
        return ", ".join(worker.name for worker in queries.live_workers() if label in worker.loaded)

    @admin.display(description="version")
    def label(self, version: ModelVersion) -> str:
        """As people name it."""
        return str(version)

    @admin.display(description="size")
    def size_mb(self, version: ModelVersion) -> str:
        """On disk."""
        return f"{version.size / 1e6:.1f} MB"

    @admin.display(description="start")
    def next_steps(self, version: ModelVersion) -> SafeString:
        """Forms of operations, filled in."""
        place = reverse("admin:jobs_operation_add")
        return format_html_join(
            " · ",
            '<a href="{}?kind={}&version={}">{}</a>',
            ((place, kind, version.pk, said) for kind, said in _STEPS.items()),
        )

    @admin.display(description="scores by file")
    def evaluated(self, version: ModelVersion) -> SafeString | str:
        """Of evaluations on labelled files."""
        own = version.metrics.get("evaluated_here", {})
        rows = [[file, name, f"{value:.4f}"] for file, scores in own.items() for name, value in scores.items()]
        return rendering.table(["file", "score", "value"], rows) if rows else "none yet"

    @admin.display(description="")
    def rendered_card(self, version: ModelVersion) -> SafeString:
        """As its makers wrote it."""
        return rendering.card(version.card)

    @admin.action(description="Activate: let this version answer", permissions=["act"])
    def activate(self, request: HttpRequest, queryset: QuerySet[ModelVersion]) -> None:
        """Switch to the chosen version."""
        if queryset.count() != 1:
            self.message_user(request, "Choose exactly one version to activate.", messages.ERROR)
            return
        self._switch(request, queryset.get(), Activation.Kind.PERSON)

    @admin.action(description="Roll back: return to the version before", permissions=["act"])
    def roll_back(self, request: HttpRequest, queryset: QuerySet[ModelVersion]) -> None:
        """Undo the last switch of each chosen version's task and variant."""
        for task, variant in sorted(set(queryset.values_list("task", "variant"))):
            try:
                earlier = services.before(task, variant)
            except BundleError as error:
                self.message_user(request, str(error), messages.ERROR)
            else:
                self._switch(request, earlier, Activation.Kind.ROLL_BACK)

    def _switch(self, request: HttpRequest, version: ModelVersion, kind: Activation.Kind) -> None:
        if version.status == ModelVersion.Status.ACTIVE:
            self.message_user(request, f"{version} was already active.")
            return
        user = request.user if request.user.is_authenticated else None
        reason = request.POST.get("reason", "").strip()[:500] or "no reason given"
        try:
            switched = switching.switch(version, kind=kind, by=user, reason=reason)
        except BundleError as error:
            self.message_user(request, str(error), messages.ERROR)
            return
        if switched:
            self.message_user(request, f"{version} answers now. No worker runs that could have loaded it before.")
        else:
            self.message_user(request, f"Workers load {version} now; it answers as soon as they are ready.")

    @admin.action(description="Retire: unload from workers", permissions=["act"])
    def retire(self, request: HttpRequest, queryset: QuerySet[ModelVersion]) -> None:
        """Give back the memory that versions hold which do not answer."""
        self._each(request, queryset, services.retire, "retired: workers unload it")

    @admin.action(description="Delete, with its files", permissions=["act"])
    def remove(self, request: HttpRequest, queryset: QuerySet[ModelVersion]) -> None:
        """Delete versions that answered no job that is still kept."""
        self._each(request, queryset, services.delete, "deleted")

    def _each(
        self,
        request: HttpRequest,
        queryset: QuerySet[ModelVersion],
        act: Callable[[ModelVersion], None],
        done: str,
    ) -> None:
        for version in queryset:
            label = str(version)
            try:
                act(version)
            except BundleError as error:
                self.message_user(request, str(error), messages.ERROR)
            else:
                self.log_change(request, version, f"{label} {done}")
                self.message_user(request, f"{label} {done}.")


@admin.register(Activation)
class ActivationAdmin(ReadOnlyAdmin):
    """The history of switches."""

    list_display = ("version", "previous", "kind", "by", "reason", "at")
    list_filter = ("kind",)
    list_select_related = ("version", "previous", "by")


@admin.register(TaskSetting)
class TaskSettingAdmin(admin.ModelAdmin):
    """Switches of a task; Django's own log says who turned which."""

    list_display = ("task", "enabled", "daily_limit", "max_batch_size", "queue", "idle_minutes")

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        """Task and queue are chosen from those there are."""
        if db_field.name == "task":
            return forms.ChoiceField(choices=[(name, tasks.get(name).title) for name in tasks.names()])
        if db_field.name == "queue":
            names = [(name, name) for name in settings.QUEUES]
            return forms.ChoiceField(
                choices=[("", "the task's own"), *names], required=False, help_text=db_field.help_text
            )
        return super().formfield_for_dbfield(db_field, request, **options)
