"""The three groups that an administrator puts people into; made anew after each migrate."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, Permission

_OURS = ("registry", "jobs")
# what an operator may do beside reading: switch versions and tasks, pause queues, run operations, cancel and requeue,
# review and delete what people said
_OPERATOR = (
    "change_modelversion",
    "add_tasksetting",
    "change_tasksetting",
    "add_queue",
    "change_queue",
    "add_operation",
    "change_operation",
    "change_job",
    "change_feedback",
    "delete_feedback",
)


def make_groups(**_: Any) -> None:
    """Viewer reads, operator acts, administrator also manages people and keys; permissions that people took away or
    added by hand are set back."""
    ours = Permission.objects.filter(content_type__app_label__in=_OURS)
    log = Permission.objects.filter(content_type__app_label="admin", codename="view_logentry")
    reading = [*ours.filter(codename__startswith="view_"), *log]
    acting = list(ours.filter(codename__in=_OPERATOR))
    everything = list(Permission.objects.filter(content_type__app_label__in=(*_OURS, "auth", "admin")))
    for name, permissions in (
        ("viewer", reading),
        ("operator", [*reading, *acting]),
        ("administrator", everything),
    ):
        Group.objects.get_or_create(name=name)[0].permissions.set(permissions)
