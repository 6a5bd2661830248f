"""What people leave: proposals, options to be remembered, keys for their programs."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone

from webapp.jobs.models.job import Job
from webapp.jobs.models.shared import Owned
from webapp.registry.models import ModelVersion


class Feedback(Owned):
    """What somebody thinks of an answer, or a better one, for operators to review; outlives the job, not its
    erasure."""

    class Review(models.TextChoices):
        """What became of it."""

        NEW = "new", "new"
        ACCEPTED = "accepted", "accepted"
        DISMISSED = "dismissed", "dismissed"

    job = models.ForeignKey(Job, on_delete=models.SET_NULL, null=True, blank=True, related_name="feedback")
    task = models.CharField(max_length=60)
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="feedback")
    part = models.PositiveIntegerField(null=True, blank=True, help_text="which part (sentence) of the answer")
    asked = models.TextField(help_text="what the answer was to")
    ours = models.TextField(help_text="what the model answered")
    theirs = models.TextField(blank=True, help_text="what it should have been; empty when only judged")
    right = models.BooleanField(default=False, help_text="whether the answer was right")
    said_with = models.JSONField(default=dict, blank=True, help_text="what of the job it needs to be understood")
    review = models.CharField(max_length=10, choices=Review, default=Review.NEW)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        """By state and age, for the reviewers."""

        verbose_name_plural = "feedback"
        indexes = (models.Index(fields=["review", "-created_at"], name="feedback_review"),)

    def __str__(self) -> str:
        return f"remark {self.pk} on {self.task}"  # no word of it: logs outlive its erasure


class Remembered(Owned):
    """An option's value that its owner used last, where the option says that it is to be remembered."""

    task = models.CharField(max_length=60)
    option = models.CharField(max_length=60)
    value = models.JSONField()
    used_at = models.DateTimeField(default=timezone.now)

    class Meta:
        """One row an owner's option."""

        verbose_name_plural = "remembered options"
        constraints = (
            models.UniqueConstraint(
                fields=["user", "task", "option"],
                condition=models.Q(user__isnull=False),
                name="one_value_a_users_option",
            ),
            models.UniqueConstraint(
                fields=["session", "task", "option"],
                condition=models.Q(user__isnull=True),
                name="one_value_a_sessions_option",
            ),
        )

    def __str__(self) -> str:
        return f"{self.task}.{self.option}"


class ApiKey(models.Model):
    """What a program shows to act for a person; the secret itself is stored nowhere."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=80, help_text="what it is for")
    prefix = models.CharField(max_length=12, unique=True, help_text="its visible part")
    digest = models.CharField(max_length=64, help_text="SHA-256 of its secret part")
    daily_limit = models.PositiveIntegerField(null=True, blank=True, help_text="jobs a day (UTC); empty is none")
    used_on = models.DateField(null=True, blank=True, help_text="the day that used_today speaks of")
    used_today = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        """A person's, newest first."""

        verbose_name = "API key"
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return f"{self.name} (unroll_{self.prefix}_…)"


class Share(models.Model):
    """An address at which everybody may read one result, until its owner ends it."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="shares")
    token = models.CharField(max_length=43, unique=True)
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"share of {self.job_id}"


class Sent(models.Model):
    """How many jobs somebody sent on a day (UTC) to a task with a limit: those that were erased since count too."""

    sender = models.CharField(max_length=120)
    task = models.CharField(max_length=60)
    day = models.DateField()
    number = models.PositiveIntegerField(default=0)

    class Meta:
        """One row a person, task and day."""

        verbose_name_plural = "sent"
        constraints = (models.UniqueConstraint(fields=["sender", "task", "day"], name="one_count_a_day"),)

    def __str__(self) -> str:
        return f"{self.number} x {self.task}, {self.day}"
