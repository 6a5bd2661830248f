"""ModelVersion, a row for each installed bundle; Activation, the record of every switch; TaskSetting."""

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models


class ModelVersion(models.Model):
    """An installed bundle, written `task/variant@N`; at most one of a task and variant is ACTIVE."""

    class Status(models.TextChoices):
        """STAGED -> ACTIVE -> ARCHIVED, and back to ACTIVE."""

        STAGED = "staged", "staged"
        ACTIVE = "active", "active"
        ARCHIVED = "archived", "archived"

    task = models.CharField(max_length=60)
    variant = models.CharField(max_length=60)
    version = models.PositiveIntegerField()
    digest = models.CharField(max_length=64, unique=True, help_text="SHA-256 of the bundle's config.json")
    architecture = models.CharField(max_length=60)
    metrics = models.JSONField(default=dict, blank=True)
    card = models.TextField(blank=True)
    licence = models.TextField(blank=True)
    size = models.PositiveBigIntegerField(help_text="bytes on disk")
    shipped = models.BooleanField(default=False, help_text="came with the project")
    status = models.CharField(max_length=10, choices=Status, default=Status.STAGED)
    fault = models.TextField(blank=True, help_text="why it cannot be loaded; empty when it can")
    installed_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True, blank=True, help_text="since when workers hold it no longer")
    # a switch that waits until workers are warm; services.settle makes an Activation of it
    wanted_at = models.DateTimeField(null=True, blank=True)
    wanted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    wanted_kind = models.CharField(max_length=10, blank=True)
    wanted_reason = models.TextField(blank=True)

    class Meta:
        """One active version a task and variant."""

        ordering = ("task", "variant", "-version")
        constraints = (
            models.UniqueConstraint(
                fields=["task", "variant"], condition=models.Q(status="active"), name="one_active_version"
            ),
        )

    def __str__(self) -> str:
        return f"{self.task}/{self.variant}@{self.version}"


class Activation(models.Model):
    """One switch: which version took over from which, who did it, and why."""

    class Kind(models.TextChoices):
        """Why a version came to answer."""

        FIRST = "first", "first install"
        UPGRADE = "upgrade", "upgrade of a shipped version"
        PERSON = "person", "by a person"
        ROLL_BACK = "roll-back", "roll back by a person"

    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="activations")
    previous = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    kind = models.CharField(max_length=10, choices=Kind)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True)
    reason = models.TextField(blank=True)
    metrics = models.JSONField(default=dict, blank=True, help_text="the version's, as they were then")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """Newest first."""

        ordering = ("-at", "-pk")

    def __str__(self) -> str:
        return f"{self.version}: {self.get_kind_display()}"


class TaskSetting(models.Model):
    """What an operator decided about a task; a task without a row has the defaults."""

    task = models.CharField(max_length=60, unique=True)
    enabled = models.BooleanField(default=True, help_text="whether it takes new jobs; those queued are still answered")
    daily_limit = models.PositiveIntegerField(
        null=True, blank=True, help_text="jobs a person may send a day (UTC); empty is no limit"
    )
    max_batch_size = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(512)],
        help_text="rows that share a forward pass, 1 to 512; empty leaves it to the task",
    )
    queue = models.CharField(
        max_length=30, blank=True, help_text="the queue of its new jobs, as a GPU worker's; empty leaves it to the task"
    )
    idle_minutes = models.PositiveIntegerField(
        default=0, help_text="workers unload its models when unused for so long; 0 keeps them (pinned)"
    )

    class Meta:
        """By name."""

        ordering = ("task",)

    def __str__(self) -> str:
        return self.task
