"""Versions as people name them on a command line."""

from __future__ import annotations

import re

from django.core.management.base import CommandError

from webapp.registry.models import ModelVersion


def find_version(name: str) -> ModelVersion:
    """The version called `task/variant@N`; CommandError lists what is installed."""
    matched = re.fullmatch(r"([\w-]+)/([\w-]+)@(\d{1,9})", name)
    if matched:
        task, variant, number = matched.groups()
        rows = ModelVersion.objects.filter(task=task, variant=variant, version=int(number))
        if found := rows.order_by("-installed_at").first():
            return found
    known = ", ".join(map(str, ModelVersion.objects.all())) or "none"
    raise CommandError(f"There is no version {name!r}. Installed: {known}.")
