"""ModelVersion, a row for each installed bundle, and Activation, the record of every switch."""

from django.conf import settings
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
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """Newest first."""

        ordering = ("-at", "-pk")

    def __str__(self) -> str:
        return f"{self.version}: {self.get_kind_display()}"
