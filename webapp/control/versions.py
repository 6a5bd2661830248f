"""Model versions in the admin: read, activate, roll back, retire, delete; every switch is on record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.dataclasses import ActionDialog
from unfold.decorators import action
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminSelectWidget

from mlcore import task as tasks
from mlcore.errors import BundleError
from webapp.control import rendering
from webapp.control.base import ActingAdmin, ReadOnlyAdmin
from webapp.control.dialogs import RollBackForm, SwitchForm
from webapp.jobs import queries, switching
from webapp.registry import services
from webapp.registry.models import Activation, ModelVersion, TaskSetting

_STEPS = {
    "evaluate": "evaluate on a labelled file",
    "compare": "compare with another version",
    "replay": "replay answered jobs",
    "check": "run its self-test",
}


def _moved(place: str) -> HttpResponse:
    """Where the page goes when a dialog is done (htmx's header)."""
    return HttpResponse(headers={"HX-Redirect": place})


@admin.register(ModelVersion)
class ModelVersionAdmin(ActingAdmin):
    """Installed bundles."""

    list_display = ("__str__", "state", "shipped", "loaded_at", "installed_at", "fault")
    list_filter = ("task", "variant", "status")
    actions_detail = ("activate", "roll_back", "retire", "remove")
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
        return rendering.written(rendering.table(["file", "score", "value"], rows)) if rows else "none yet"

    @admin.display(description="")
    def rendered_card(self, version: ModelVersion) -> SafeString:
        """As its makers wrote it."""
        return rendering.card(version.card)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """What can be done to this version as it stands."""
        version = self.get_object(request, str(object_id))
        active = version is not None and version.status == ModelVersion.Status.ACTIVE
        fitting = ("roll_back",) if active else ("activate", "retire", "remove")
        allowed = super().get_actions_detail(request, object_id)
        return [action for action in allowed if action.method.original_function_name in fitting]

    @action(
        description="Activate",
        permissions=["act"],
        url_path="activate",
        variant=ActionVariant.PRIMARY,
        dialog=ActionDialog(
            title="Let this version answer?",
            description="Workers load it first; jobs that run are finished by the version they began with.",
            form_class=SwitchForm,
            form_submit_text="Activate",
        ),
    )
    def activate(self, request: HttpRequest, form: SwitchForm, object_id: str) -> HttpResponse:
        """Switch to this version."""
        self._switch(request, self._named(object_id), Activation.Kind.PERSON, form)
        return self._back(object_id)

    @action(
        description="Roll back",
        permissions=["act"],
        url_path="roll-back",
        variant=ActionVariant.DANGER,
        dialog=ActionDialog(
            title="Return to the version before?",
            description="The inverse of the last switch; it is recorded like any other.",
            form_class=RollBackForm,
            form_submit_text="Roll back",
        ),
    )
    def roll_back(self, request: HttpRequest, form: SwitchForm, object_id: str) -> HttpResponse:
        """Undo the last switch of this version's task and variant."""
        version = self._named(object_id)
        if version.status != ModelVersion.Status.ACTIVE:  # a dialog that stood open while somebody else switched
            self.message_user(
                request, f"{version} does not answer any more, so nothing was rolled back.", messages.ERROR
            )
            return self._back(object_id)
        if ModelVersion.objects.filter(task=version.task, variant=version.variant, wanted_at__isnull=False).exists():
            self.message_user(request, "A switch is under way already. Wait until it is done.", messages.ERROR)
            return self._back(object_id)
        try:
            earlier = services.before(version.task, version.variant)
        except BundleError as error:
            self.message_user(request, str(error), messages.ERROR)
        else:
            self._switch(request, earlier, Activation.Kind.ROLL_BACK, form)
        return self._back(object_id)

    def _switch(self, request: HttpRequest, version: ModelVersion, kind: Activation.Kind, form: SwitchForm) -> None:
        if version.status == ModelVersion.Status.ACTIVE:
            self.message_user(request, f"{version} was already active.")
            return
        user = request.user if request.user.is_authenticated else None
        try:
            switched = switching.switch(version, kind=kind, by=user, reason=form.cleaned_data["reason"])
        except BundleError as error:
            self.message_user(request, str(error), messages.ERROR)
            return
        if switched:
            self.message_user(request, f"{version} answers now. No worker runs that could have loaded it before.")
        else:
            self.message_user(request, f"Workers load {version} now; it answers as soon as they are ready.")

    @action(
        description="Retire",
        permissions=["act"],
        url_path="retire",
        dialog=ActionDialog(
            title="Retire this version?",
            description="Workers unload it and give its memory back. It can be activated again at any time.",
            form_class=None,
            form_submit_text="Retire",
        ),
    )
    def retire(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        """Give back the memory that a version holds which does not answer."""
        self._act(request, object_id, services.retire, "retired: workers unload it")
        return self._back(object_id)

    @action(
        description="Delete",
        permissions=["act"],
        url_path="remove",
        variant=ActionVariant.DANGER,
        dialog=ActionDialog(
            title="Delete this version with its files?",
            description="This cannot be undone. A version that ever answered stays: the record of switches names it. "
            "It can be retired.",
            form_class=None,
            form_submit_text="Delete",
        ),
    )
    def remove(self, request: HttpRequest, form: Any, object_id: str) -> HttpResponse:
        """Delete a version that never answered."""
        gone = self._act(request, object_id, services.delete, "deleted")
        return _moved(reverse("admin:registry_modelversion_changelist")) if gone else self._back(object_id)

    def _named(self, object_id: str) -> ModelVersion:
        return get_object_or_404(ModelVersion, pk=object_id)

    def _back(self, object_id: str) -> HttpResponse:
        return _moved(reverse("admin:registry_modelversion_change", args=[object_id]))

    def _act(self, request: HttpRequest, object_id: str, act: Callable[[ModelVersion], None], done: str) -> bool:
        version = self._named(object_id)
        label = str(version)
        try:
            act(version)
        except BundleError as error:
            self.message_user(request, str(error), messages.ERROR)
            return False
        self.log_change(request, version, f"{label} {done}")
        self.message_user(request, f"{label} {done}.")
        return True


@admin.register(Activation)
class ActivationAdmin(ReadOnlyAdmin):
    """The history of switches."""

    list_display = ("version", "previous", "kind", "by", "reason", "at")
    list_filter = ("kind",)
    list_select_related = ("version", "previous", "by")


@admin.register(TaskSetting)
class TaskSettingAdmin(ModelAdmin):  # type: ignore[misc]
    """Switches of a task; Django's own log says who turned which."""

    list_display = ("task", "enabled", "daily_limit", "max_batch_size", "queue", "idle_minutes")

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        """Task and queue are chosen from those there are."""
        if db_field.name == "task":
            named = [(name, tasks.get(name).title) for name in tasks.names()]
            return forms.ChoiceField(choices=named, widget=UnfoldAdminSelectWidget)
        if db_field.name == "queue":
            names = [(name, name) for name in settings.QUEUES]
            return forms.ChoiceField(
                choices=[("", "the task's own"), *names],
                required=False,
                widget=UnfoldAdminSelectWidget,
                help_text=db_field.help_text,
            )
        return super().formfield_for_dbfield(db_field, request, **options)
