"""What is asked before a switch of versions: the reason, beneath the scores of both."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.forms import BaseDialogForm
from unfold.widgets import UnfoldAdminTextInputWidget

from mlcore.errors import BundleError
from webapp.control import rendering
from webapp.registry import services
from webapp.registry.models import ModelVersion


class SwitchForm(BaseDialogForm):  # type: ignore[misc]
    """Asks why, with the scores of both versions above the question."""

    reason = forms.CharField(
        max_length=500,
        widget=UnfoldAdminTextInputWidget,
        help_text="It stands in the record of switches, with your name and the scores of now.",
    )
    form_before_template = "admin/registry/modelversion/sides.html"

    def get_before_template_context(self, request: HttpRequest, object_id: Any = None) -> dict[str, Any]:
        """The version that answers, the one that would, and their scores."""
        version = ModelVersion.objects.filter(pk=object_id).first()
        return {} if version is None else self.sides(version)

    def sides(self, version: ModelVersion) -> dict[str, Any]:
        """What answers now and what would."""
        active = ModelVersion.objects.filter(
            task=version.task, variant=version.variant, status=ModelVersion.Status.ACTIVE
        ).first()
        return {"before": active, "after": version, "scores": _side_by_side(active, version)}


class RollBackForm(SwitchForm):
    """The same, where the version shown is the one that answers."""

    def sides(self, version: ModelVersion) -> dict[str, Any]:
        """What answers now and what did before."""
        try:
            earlier = services.before(version.task, version.variant)
        except BundleError as error:
            return {"problem": str(error)}
        return {"before": version, "after": earlier, "scores": _side_by_side(version, earlier)}


def _side_by_side(before: ModelVersion | None, after: ModelVersion) -> SafeString | str:
    """Scores on files on which both were evaluated here."""
    ours, theirs = (
        version.metrics.get("evaluated_here", {}) if version is not None else {} for version in (before, after)
    )
    rows = [
        [file, name, f"{ours[file][name]:.4f}", f"{value:.4f}"]
        for file, scores in theirs.items()
        for name, value in scores.items()
        if name in ours.get(file, {})
    ]
    return rendering.table(["file", "score", before, after], rows) if rows else ""
