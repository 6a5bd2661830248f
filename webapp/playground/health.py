"""Whether the process lives, and whether the server can answer."""

from __future__ import annotations

from django.conf import settings
from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse
from redis import RedisError

from webapp.jobs import events, queries
from webapp.registry.models import ModelVersion


def live(request: HttpRequest) -> JsonResponse:
    """200 as long as the web process answers."""
    return JsonResponse({"status": "alive"})


def _database() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return "does not answer"
    return "ok"


def _redis() -> str:
    try:
        events.connection().ping()
    except RedisError:
        return "does not answer"
    return "ok"


def ready(request: HttpRequest) -> JsonResponse:
    """200 when database, Redis and a worker for each queue are there; 503 and what is missing otherwise.

    Bundles that cannot be loaded are named; they do not make the server unready.
    """
    found: dict[str, object] = {"database": _database(), "redis": _redis()}
    workers = queries.health()["workers"] if found["database"] == "ok" else {}
    found |= {f"worker:{queue}": "ok" if workers.get(queue) else "not running" for queue in settings.QUEUES}
    is_ready = all(value == "ok" for value in found.values())
    faulty = ModelVersion.objects.exclude(fault="").filter(status="active") if found["database"] == "ok" else []
    return JsonResponse(
        {"status": "ready" if is_ready else "not ready", "checks": found, "faulty_bundles": [str(v) for v in faulty]},
        status=200 if is_ready else 503,
    )
