"""Operations in the admin: start them, watch them, stop them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget

from mlcore.errors import BundleError, InvalidInput
from webapp.control import rendering
from webapp.control.base import ActingAdmin
from webapp.jobs import files, intake, operations
from webapp.jobs.models import Operation
from webapp.jobs.owners import owner_of
from webapp.registry.models import ModelVersion

INSTALL = "install"


class StartForm(forms.Form):
    """What to do with which version; an archive is a version to be installed."""

    kind = forms.ChoiceField(
        choices=[(INSTALL, "install an archive and run its self-test"), *Operation.Kind.choices],
        label="What",
        widget=UnfoldAdminSelectWidget,
    )
    archive = forms.FileField(
        required=False, widget=UnfoldAdminFileFieldWidget, help_text="A zip of a bundle's folder, to be installed."
    )
    version = forms.ModelChoiceField(ModelVersion.objects.all(), required=False, widget=UnfoldAdminSelectWidget)
    other = forms.ModelChoiceField(
        ModelVersion.objects.all(), required=False, widget=UnfoldAdminSelectWidget, help_text="To compare it with."
    )
    labelled = forms.FileField(
        required=False,
        widget=UnfoldAdminFileFieldWidget,
        label="Labelled file",
        help_text='JSON lines {"inputs": {...}, "expected": ...}, or lines “expected TAB text”.',
    )
    number = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=operations.MOST_REPLAYED,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="Last jobs to replay or compare on, those with a document left out.",
    )

    def start(self, request: HttpRequest) -> Operation:
        """Queue it; InvalidInput and BundleError say what is wrong."""
        given = self.cleaned_data
        if given["kind"] == INSTALL:
            if given["archive"] is None:
                raise InvalidInput("archive", "Choose an archive to install.")
            return operations.install_upload(given["archive"].chunks(), by=request.user)
        if given["version"] is None:
            raise InvalidInput("version", "Choose a version.")
        sent = given["labelled"]
        file = (
            intake.store(sent.chunks(), owner=owner_of(request), field="labelled", name=sent.name, wanted="labelled")
            if sent
            else None
        )
        try:
            return operations.start(
                Operation.Kind(given["kind"]),
                given["version"],
                by=request.user,
                other=given["other"],
                file=file,
                number=given["number"] or 0,
            )
        except InvalidInput:
            files.erase([file] if file else [])
            raise


@admin.register(Operation)
class OperationAdmin(ActingAdmin):
    """Slow work on versions, newest first."""

    list_display = ("__str__", "status", "progress", "by", "created_at", "finished_at")
    list_filter = ("kind", "status")
    list_select_related = ("by",)
    fields = ("kind", "label", "other", "status", "progress", "by", "error", "found", "created_at", "finished_at")
    readonly_fields = ("progress", "found")
    actions = ("cancel",)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who holds the permission of that name may start operations."""
        return request.user.has_perm("jobs.add_operation")

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """A form; what is wrong is said at its field."""
        if not self.has_add_permission(request):
            return redirect(reverse("admin:jobs_operation_changelist"))
        form = StartForm(request.POST or None, request.FILES or None, initial=request.GET.dict())
        if request.method == "POST" and form.is_valid():
            try:
                operation = form.start(request)
            except InvalidInput as error:
                form.add_error(error.field if error.field in form.fields else None, error.message)
            except BundleError as error:
                form.add_error("archive", str(error))
            else:
                self.log_addition(request, operation, "started")
                return redirect(reverse("admin:jobs_operation_change", args=[operation.pk]))
        context = {
            **self.admin_site.each_context(request),
            "form": form,
            "opts": self.opts,
            "title": "Start an operation",
        }
        return render(request, "admin/jobs/operation/start.html", context)

    @admin.display(description="progress")
    def progress(self, operation: Operation) -> str:
        """Done of total."""
        if operation.progress_total is None:
            return ""
        return f"{operation.progress_done} of {operation.progress_total} {operation.progress_unit}"

    @admin.display(description="result")
    def found(self, operation: Operation) -> SafeString | str:
        """The result as tables."""
        return "" if operation.result is None else rendering.result(operation.result)

    @admin.action(description="Cancel", permissions=["act"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Operation]) -> None:
        """Stop what is queued or running."""
        stopped = [operation for operation in queryset if operations.cancel(operation)]
        self.on_record(request, stopped, "cancelled")
        self.message_user(request, f"{len(stopped)} operations cancelled.")
