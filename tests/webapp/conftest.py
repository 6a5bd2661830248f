"""An installed tiny bundle, and a worker that runs in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import current_app
from django.test import Client

from mlcore.bundle import Bundle
from webapp.jobs import events
from webapp.jobs.models import Job
from webapp.jobs.server import Server
from webapp.registry import services as registry
from webapp.registry.models import ModelVersion

TASK = "sentiment-analysis"


@pytest.fixture(autouse=True)
def _plain_settings(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No manifest of static files, bundles in a folder of their own, a Redis that is not there."""
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    settings.STATIC_ROOT = tmp_path
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.BUNDLE_ROOT = tmp_path / "bundles"
    settings.SETUP_TOKEN_FILE = tmp_path / "setup-token"
    settings.MEDIA_ROOT, settings.MIN_FREE_DISK_MB = tmp_path / "media", 0
    monkeypatch.setattr(current_app, "send_task", lambda *_, **__: None)  # nobody's Redis is woken
    settings.REDIS_URL = f"unix://{tmp_path}/no-redis.sock"
    events.connection.cache_clear()
    yield
    events.connection.cache_clear()


@pytest.fixture
def version(db: None, tiny_bundle: Bundle) -> ModelVersion:
    """The tiny bundle, installed and active."""
    installed = registry.install(tiny_bundle.path, shipped=True)
    registry.activate(installed)
    return installed


@pytest.fixture
def server(version: ModelVersion) -> Server:
    """A worker's server, without its heartbeat thread."""
    return Server(["fast"], device="cpu")


@pytest.fixture
def run_jobs(server: Server) -> Callable[[], None]:
    """Work on everything that is queued."""

    def run() -> None:
        while server.serve():
            pass

    return run


@pytest.fixture
def post_json(client: Client) -> Callable[..., Any]:
    """POST a JSON body."""

    def post(path: str, body: Any, **headers: str) -> Any:
        return client.post(path, body, content_type="application/json", headers=headers)

    return post


def inputs(text: str = "A good film.") -> dict[str, str]:
    """Inputs of a request."""
    return {"text": text}


def reload(job: Job) -> Job:
    """The job as it stands in the database."""
    return Job.objects.select_related("content", "version").get(pk=job.pk)


VERSIONS = "/admin/registry/modelversion/"


def decide(client: Client, pk: Any, path: str, reason: str = "") -> str:
    """Confirm a dialog of a version's page; the page that follows."""
    response = client.post(f"{VERSIONS}{pk}/{path}/", {"_form_submitted": "on", "reason": reason})
    assert response.status_code == 200
    return client.get(response.headers["HX-Redirect"]).content.decode()
