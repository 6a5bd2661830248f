"""Worker processes, and the queues that they serve."""

from __future__ import annotations

from django.conf import settings
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
    stats = models.JSONField(default=dict, blank=True, help_text="{task: counts of outcomes, waits, runs and batches}")
    last_error = models.CharField(max_length=300, blank=True)
    jobs_done = models.PositiveBigIntegerField(default=0)
    batches_done = models.PositiveBigIntegerField(default=0)
    started_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)

    class Meta:
        """By name."""

        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Queue(models.Model):
    """A queue that an operator paused, or paused once; a queue without a row is served."""

    name = models.CharField(max_length=30, unique=True)
    paused = models.BooleanField(default=True)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        """By name."""

        ordering = ("name",)

    def __str__(self) -> str:
        return self.name
