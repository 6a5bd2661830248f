"""Files, batches, jobs and their content."""

from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone

from webapp.jobs.models.shared import Claimable, Owned
from webapp.registry.models import ModelVersion


class File(Owned):
    """What somebody uploaded, or what a job made; its bytes lie in Django's storage under a random name."""

    class Kind(models.TextChoices):
        """Which way it goes."""

        INPUT = "input", "input"
        OUTPUT = "output", "output"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=6, choices=Kind, default=Kind.INPUT)
    sha256 = models.CharField(max_length=64)
    size = models.PositiveBigIntegerField(help_text="bytes")
    key = models.CharField(max_length=200, help_text="its name in the storage")
    name = models.CharField(max_length=200, blank=True, help_text="what its owner called it")
    media = models.CharField(max_length=10, default="image", help_text="image or document")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        """By owner, for quotas; by age, for retention."""

        indexes = (
            models.Index(fields=["user", "-created_at"], name="file_user"),
            models.Index(fields=["session", "-created_at"], name="file_session"),
            models.Index(fields=["client"], name="file_client"),
            models.Index(fields=["created_at"], name="file_created"),
        )

    def __str__(self) -> str:
        return str(self.pk)


class Batch(Owned):
    """What one person sent together; one line of the history."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    task = models.CharField(max_length=60)
    variant = models.CharField(max_length=60)
    total = models.PositiveIntegerField()
    refused = models.JSONField(default=list, help_text="[[place, field, message]] of the items that were no jobs")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        """By owner, newest first."""

        verbose_name_plural = "batches"
        indexes = (
            models.Index(fields=["user", "-created_at"], name="batch_user"),
            models.Index(fields=["session", "-created_at"], name="batch_session"),
        )

    def __str__(self) -> str:
        return f"{self.total} x {self.task}"


class Job(Claimable, Owned):
    """One request to run a task, pinned at submit to the version that was active then."""

    task = models.CharField(max_length=60)
    variant = models.CharField(max_length=60)
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="jobs")
    batch = models.ForeignKey(Batch, on_delete=models.CASCADE, null=True, blank=True, related_name="jobs")
    place = models.PositiveIntegerField(default=0, help_text="its place in the batch")
    bulk = models.BooleanField(default=False, help_text="comes after interactive jobs")
    turn = models.PositiveBigIntegerField(default=0, help_text="bulk jobs: whose turn it is, owner by owner")
    batch_key = models.CharField(max_length=64, help_text="jobs of one key may share a forward pass")
    cost = models.PositiveIntegerField(default=1)
    summary = models.CharField(max_length=120, blank=True)
    answer = models.CharField(max_length=120, blank=True, help_text="the output in a few words")
    model_time_s = models.FloatField(null=True, blank=True)
    batch_rows = models.PositiveSmallIntegerField(null=True, blank=True, help_text="rows of the forward pass")
    files = models.ManyToManyField(File, blank=True, related_name="jobs", help_text="what its inputs name")

    class Meta:
        """A million rows list fast: each question has its own, mostly partial, index."""

        indexes = (
            models.Index(
                fields=["queue", "bulk", "turn", "created_at"],
                condition=models.Q(status="queued"),
                name="job_queued",
            ),
            models.Index(fields=["user"], condition=models.Q(status="queued"), name="job_queued_user"),
            models.Index(fields=["session", "client"], condition=models.Q(status="queued"), name="job_queued_session"),
            models.Index(fields=["task", "finished_at"], condition=models.Q(status="cancelled"), name="job_cancelled"),
            models.Index(fields=["lease_until"], condition=models.Q(status="running"), name="job_running"),
            models.Index(fields=["user", "-created_at"], name="job_user"),
            models.Index(fields=["session", "-created_at"], name="job_session"),
            models.Index(fields=["batch", "place"], name="job_batch"),
            models.Index(fields=["-created_at"], name="job_created"),
            models.Index(fields=["-finished_at"], name="job_finished"),
            models.Index(fields=["task", "-created_at"], name="job_task"),
            models.Index(fields=["version", "-created_at"], name="job_version"),
        )

    def __str__(self) -> str:
        return f"{self.task} {self.pk}"


class JobContent(models.Model):
    """The heavy part of a job, apart so that lists stay light."""

    job = models.OneToOneField(Job, on_delete=models.CASCADE, primary_key=True, related_name="content")
    inputs = models.JSONField()
    options = models.JSONField(default=dict)
    output = models.JSONField(null=True, blank=True)
    partial = models.JSONField(null=True, blank=True)
    error_field = models.CharField(max_length=120, blank=True)
    error_message = models.TextField(blank=True)

    def __str__(self) -> str:
        return f"content of {self.job_id}"


class IdempotencyKey(models.Model):
    """A create request that may be repeated: same owner, same key, same body, same job."""

    owner = models.CharField(max_length=80)
    key = models.CharField(max_length=200)
    body_digest = models.CharField(max_length=64)
    job = models.ForeignKey(Job, on_delete=models.CASCADE)

    class Meta:
        """One job an owner's key."""

        constraints = (models.UniqueConstraint(fields=["owner", "key"], name="one_job_a_key"),)

    def __str__(self) -> str:
        return self.key
