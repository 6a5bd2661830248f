"""Slow work that is no task: self-tests of installed bundles, evaluations, comparisons, replays."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from webapp.jobs.models.job import File
from webapp.jobs.models.shared import Claimable
from webapp.registry.models import ModelVersion


class Operation(Claimable):
    """What an operator asked a worker to do with a version; a row like a job."""

    class Kind(models.TextChoices):
        """What is done."""

        CHECK = "check", "self-test"
        EVALUATE = "evaluate", "evaluation on a labelled file"
        COMPARE = "compare", "comparison of two versions"
        REPLAY = "replay", "replay of answered jobs"

    kind = models.CharField(max_length=10, choices=Kind)
    version = models.ForeignKey(ModelVersion, on_delete=models.SET_NULL, null=True, related_name="operations")
    label = models.CharField(max_length=140, help_text="the version's name; it stays when the version goes")
    other = models.ForeignKey(ModelVersion, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True)
    file = models.ForeignKey(File, on_delete=models.SET_NULL, null=True, blank=True, related_name="operations")
    number = models.PositiveIntegerField(default=0, help_text="jobs to replay")
    result = models.JSONField(null=True, blank=True)
    error = models.TextField(blank=True)

    class Meta:
        """Newest first; the queued ones by age."""

        ordering = ("-created_at",)
        indexes = (
            models.Index(fields=["queue", "created_at"], condition=models.Q(status="queued"), name="operation_queued"),
        )

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.label}"
