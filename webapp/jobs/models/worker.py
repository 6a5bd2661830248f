"""Worker processes."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class Worker(models.Model):
    """A living worker process; written every second by a thread of its own."""

    name = models.CharField(max_length=120, unique=True)
    host = models.CharField(max_length=100)
    pid = models.PositiveIntegerField()
    queues = models.JSONField(default=list)
    device = models.CharField(max_length=60, blank=True)
    memory_mb = models.PositiveIntegerField(default=0)
    loaded = models.JSONField(default=list, help_text="labels of the versions in memory")
    loading = models.CharField(max_length=130, blank=True, help_text="label of the version being loaded")
    rows = models.PositiveIntegerField(default=0, help_text="jobs in the running batch")
    jobs_done = models.PositiveBigIntegerField(default=0)
    batches_done = models.PositiveBigIntegerField(default=0)
    started_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)

    class Meta:
        """By name."""

        ordering = ("name",)

    def __str__(self) -> str:
        return self.name
