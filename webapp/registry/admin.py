"""Model versions in the admin: read, activate, roll back; every switch is on record."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from mlcore.errors import BundleError
from webapp.registry import services
from webapp.registry.models import Activation, ModelVersion


class ReadOnlyAdmin(admin.ModelAdmin):
    """Rows that only services write."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nothing is added by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nothing is edited by hand."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nothing is deleted by hand."""
        return False


class ActingAdmin(ReadOnlyAdmin):
    """Read-only rows with actions, which need the change permission of their own."""

    def may_act(self, request: HttpRequest) -> bool:
        """Whether the person holds the model's change permission."""
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")

    has_act_permission = may_act


@admin.register(ModelVersion)
class ModelVersionAdmin(ActingAdmin):
    """Installed bundles."""

    list_display = ("__str__", "status", "shipped", "installed_at", "fault")
    list_filter = ("task", "variant", "status")
    actions = ("activate", "roll_back")

    @admin.action(description="Activate: let this version answer", permissions=["act"])
    def activate(self, request: HttpRequest, queryset: QuerySet[ModelVersion]) -> None:
        """Switch to the chosen version."""
        if queryset.count() != 1:
            self.message_user(request, "Choose exactly one version to activate.", messages.ERROR)
            return
        version = queryset.get()
        user = request.user if request.user.is_authenticated else None
        switched = services.activate(version, by=user, reason="from the admin")
        self.message_user(request, f"{version} answers now." if switched else f"{version} was already active.")

    @admin.action(description="Roll back: return to the version before", permissions=["act"])
    def roll_back(self, request: HttpRequest, queryset: QuerySet[ModelVersion]) -> None:
        """Undo the last switch of each chosen version's task and variant."""
        user = request.user if request.user.is_authenticated else None
        for task, variant in sorted(set(queryset.values_list("task", "variant"))):
            try:
                switched = services.roll_back(task, variant, by=user, reason="from the admin")
            except BundleError as error:
                self.message_user(request, str(error), messages.ERROR)
            else:
                self.message_user(request, f"{switched.version} answers again.")


@admin.register(Activation)
class ActivationAdmin(ReadOnlyAdmin):
    """The history of switches."""

    list_display = ("version", "previous", "kind", "by", "reason", "at")
    list_filter = ("kind",)
