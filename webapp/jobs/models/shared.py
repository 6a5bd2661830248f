"""What rows share: where they stand, under which lease, and whose they are."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone


class Status(models.TextChoices):
    """Where a job stands."""

    QUEUED = "queued", "queued"
    RUNNING = "running", "running"
    SUCCEEDED = "succeeded", "done"
    FAILED = "failed", "failed"
    CANCELLED = "cancelled", "cancelled"


TERMINAL = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)
UNDER_WAY = (Status.QUEUED, Status.RUNNING)


class Claimable(models.Model):
    """Work that a worker takes under a lease: whoever holds `lease_token` may write, nobody else."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    status = models.CharField(max_length=10, choices=Status, default=Status.QUEUED)
    queue = models.CharField(max_length=30)
    lease_token = models.UUIDField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    worker = models.CharField(max_length=120, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    progress_done = models.PositiveIntegerField(null=True, blank=True)
    progress_total = models.PositiveIntegerField(null=True, blank=True)
    progress_unit = models.CharField(max_length=20, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        """Shared columns only."""

        abstract = True

    @property
    def is_terminal(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in TERMINAL


class Owned(models.Model):
    """Whose it is: an account's, a browser session's, or nobody's (then `client` is the address it came from)."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True)
    session = models.CharField(max_length=32, blank=True, default="")
    client = models.CharField(max_length=64, blank=True, default="")

    class Meta:
        """Shared columns only."""

        abstract = True
