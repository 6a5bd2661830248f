"""What every page knows."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse

from webapp.registry.services import installed_tasks


def menu() -> list[dict[str, str]]:
    """One entry a page of tasks, for the header; a task of which no version was ever installed is none."""
    entries: dict[str, dict[str, str]] = {}
    for spec in installed_tasks():
        page = spec.page or spec.name
        entries.setdefault(page, {"title": spec.menu, "url": reverse("task", args=[page])})
    return list(entries.values())


def site(request: HttpRequest) -> dict[str, Any]:
    """Header and footer."""
    return {"menu": menu(), "retention_days": settings.RETENTION_DAYS}
