"""How the admin looks: django-unfold's settings, with the groups of its sidebar."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy


def _may_view(model: str) -> Callable[[HttpRequest], bool]:
    app, name = model.split("_")
    return lambda request: request.user.has_perm(f"{app}.view_{name}")


def _link(title: str, icon: str, model: str) -> dict[str, Any]:
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{model}_changelist"),
        "permission": _may_view(model),
    }


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Unroll",
    "SITE_HEADER": "Unroll",
    "SITE_SUBHEADER": "Models, jobs and workers",
    "SITE_ICON": lambda request: static("img/icon.svg"),
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("img/icon.svg")}],
    "STYLES": [lambda request: static("css/admin.css")],
    "DASHBOARD_CALLBACK": "webapp.control.dashboard.add",
    "BORDER_RADIUS": "6px",
    "COLORS": {  # the blue of the pages, lighter and darker
        "primary": {
            "50": "#f0f6fc",
            "100": "#dfebf8",
            "200": "#c2d9f1",
            "300": "#93bce5",
            "400": "#5f99d3",
            "500": "#3a7bbd",
            "600": "#1f5d9e",
            "700": "#1b4f86",
            "800": "#18426e",
            "900": "#163759",
            "950": "#0e233b",
        },
    },
    "SIDEBAR": {
        "show_search": False,
        "navigation": [
            {
                "title": None,
                "items": [
                    {"title": "Dashboard", "icon": "monitoring", "link": reverse_lazy("admin:index")},
                    {
                        "title": "Start an operation",
                        "icon": "play_circle",
                        "link": reverse_lazy("admin:jobs_operation_add"),
                        "permission": lambda request: request.user.has_perm("jobs.add_operation"),
                    },
                ],
            },
            {
                "title": "Models",
                "separator": True,
                "items": [
                    _link("Versions", "deployed_code", "registry_modelversion"),
                    _link("Switches", "swap_horiz", "registry_activation"),
                    _link("Operations", "fact_check", "jobs_operation"),
                    _link("Task settings", "tune", "registry_tasksetting"),
                ],
            },
            {
                "title": "Work",
                "separator": True,
                "items": [
                    _link("Jobs", "list_alt", "jobs_job"),
                    _link("Batches", "stacks", "jobs_batch"),
                    _link("Workers", "memory", "jobs_worker"),
                    _link("Queues", "pause_circle", "jobs_queue"),
                    _link("Feedback", "rate_review", "jobs_feedback"),
                ],
            },
            {
                "title": "People",
                "separator": True,
                "items": [
                    _link("Accounts", "person", "auth_user"),
                    _link("Groups", "groups", "auth_group"),
                    _link("API keys", "key", "jobs_apikey"),
                    _link("Audit log", "history", "admin_logentry"),
                ],
            },
        ],
    },
}
