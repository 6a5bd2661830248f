"""What production asks for: metrics, logs that machines read, secrets of one's own, a clean deployment check."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import yaml
from django.core.management import get_commands
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from webapp.jobs import events, journal, services, submission, upkeep
from webapp.jobs.models import Job, Queue, Status
from webapp.jobs.owners import Owner
from webapp.jobs.server import Server
from webapp.registry.models import ModelVersion
from webapp.secret import production_problem, read_or_make

from .conftest import TASK

ROOT = Path(__file__).resolve().parent.parent.parent
GOOD_KEY = "k3y" * 10 + "abcdefghijklmnopqrstuvwxyz"


def example() -> dict[str, str]:
    """The production example with both secrets filled in; its host names stay the example's."""
    text = (ROOT / "deploy" / "production.env").read_text()
    values = dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return values | {"SECRET_KEY": GOOD_KEY, "POSTGRES_PASSWORD": "p"}


def manage(tmp_path: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "DJANGO_SETTINGS_MODULE")}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={**kept, "UNROLL_STATE": str(tmp_path), **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.django_db
def test_metrics_are_off_until_asked_for_and_then_for_the_allowed(client: Client, settings: Any) -> None:
    assert client.get("/metrics").status_code == 404
    settings.METRICS_TOKEN = "right"
    assert client.get("/metrics").status_code == 403
    assert client.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 403
    answer = client.get("/metrics", headers={"Authorization": "Bearer right"})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    settings.METRICS_TOKEN, settings.METRICS_ALLOW = "", [ipaddress.ip_network("10.0.0.0/8")]
    assert client.get("/metrics").status_code == 403
    assert client.get("/metrics", REMOTE_ADDR="10.1.2.3").status_code == 200
    assert client.get("/metrics", REMOTE_ADDR="not an address").status_code == 403


@pytest.mark.django_db
def test_metrics_count_what_workers_did_and_tell_nothing_of_people(
    client: Client, settings: Any, server: Server, run_jobs: Callable[[], None]
) -> None:
    owner = Owner(session="anna")
    for text in ("a private sentence", "another"):
        submission.submit(submission.check(TASK, {"text": text}, owner=owner), owner=owner)
    run_jobs()
    submission.submit(submission.check(TASK, {"text": "waits"}, owner=owner), owner=owner)
    Queue.objects.create(name="slow")
    server.heartbeat.write()
    settings.METRICS_TOKEN = "right"
    text = client.get("/metrics", headers={"Authorization": "Bearer right"}).content.decode()
    assert "private" not in text and "anna" not in text
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = tuple(value for name, value in sorted(sample.labels.items()) if name != "worker")
            found.setdefault(sample.name, {})[labels] = sample.value
    assert found["unroll_jobs_total"] == {("succeeded", TASK): 2}
    assert found["unroll_job_wait_seconds_count"] == {(TASK,): 2}
    assert found["unroll_job_run_seconds_bucket"]["+Inf", TASK] == 2
    assert found["unroll_batch_rows_bucket"]["1.0", TASK] == 0
    assert found["unroll_batch_rows_bucket"]["2.0", TASK] == 1
    assert found["unroll_batch_rows_sum"] == {(TASK,): 2}
    assert found["unroll_queue_waiting"] == {("fast",): 1, ("slow",): 0}
    assert found["unroll_queue_oldest_seconds"]["fast",] > 0
    assert found["unroll_queue_paused"] == {("fast",): 0, ("slow",): 1}
    assert found["unroll_version_active"] == {(f"{TASK}/en@1",): 1}
    assert next(iter(found["unroll_worker_memory_bytes"].values())) > 1e6


@pytest.mark.parametrize(
    ("key", "hosts", "words"),
    [
        ("", "a.org", "SECRET_KEY is missing"),
        ("change-me-" + GOOD_KEY, "a.org", "easily guessed"),
        ("x" * 60, "a.org", "easily guessed"),
        ("short", "a.org", "easily guessed"),
        (GOOD_KEY, " ,", "ALLOWED_HOSTS is missing"),
        (GOOD_KEY, "*", "ALLOWED_HOSTS is missing"),
    ],
)
def test_production_refuses_what_anybody_could_guess(key: str, hosts: str, words: str) -> None:
    assert words in str(production_problem(key, {"ALLOWED_HOSTS": hosts}))
    assert production_problem(GOOD_KEY, {"ALLOWED_HOSTS": "a.org"}) is None


def test_the_production_example_refuses_to_start_as_it_is_and_is_clean_when_filled_in(tmp_path: Path) -> None:
    raw = (ROOT / "deploy" / "production.env").read_text()
    key = re.search(r"^SECRET_KEY=(.*)$", raw, re.M)
    assert key is not None
    refused = manage(tmp_path, example() | {"SECRET_KEY": key[1]}, "check")
    assert refused.returncode != 0
    assert "SECRET_KEY" in refused.stderr and "Traceback" not in refused.stderr
    clean = manage(tmp_path, example(), "check", "--deploy", "--fail-level", "WARNING")
    assert clean.returncode == 0, clean.stderr


def test_behind_tls_pages_are_redirected_and_health_is_not(tmp_path: Path) -> None:
    code = (
        "from django.test import Client; c = Client(headers={'host': 'unroll.example.org'}); "
        "print(*(c.get(path).status_code for path in ('/', '/healthz/live', '/metrics')))"
    )
    ended = manage(tmp_path, example(), "shell", "--no-imports", "-c", code)
    assert ended.stdout.split() == ["301", "200", "404"], ended.stderr


def test_json_logs_are_one_object_a_line_with_the_job_and_not_its_text(tmp_path: Path) -> None:
    code = (
        "import logging; log = logging.getLogger('unroll.journal');"
        "log.info('job ended', extra={'job': '1', 'version': 'a/b@1', 'run_s': 0.5})"
    )
    said = manage(tmp_path, {"LOG_FORMAT": "json"}, "shell", "--no-imports", "-c", code).stderr
    line = json.loads(said.strip().splitlines()[-1])
    assert (line["message"], line["job"], line["version"], line["run_s"]) == ("job ended", "1", "a/b@1", 0.5)
    assert {"time", "level", "logger"} <= set(line)
    assert "job ended" not in manage(tmp_path, {}, "shell", "--no-imports", "-c", code).stderr
    assert "must be plain or json" in manage(tmp_path, {"LOG_FORMAT": "xml"}, "check").stderr


def test_uvicorn_and_celery_write_as_the_settings_say(tmp_path: Path) -> None:
    code = (
        "import logging, uvicorn; from webapp.celery import app;"
        "uvicorn.Config('webapp.asgi:application', log_level='warning').load();"
        "app.log.setup(loglevel='WARNING');"
        "print(logging.getLogger().level);"
        "logging.getLogger('uvicorn.error').error('no port');"
        "logging.getLogger('celery.worker').debug('a detail')"
    )
    (tmp_path / "static").mkdir()
    ended = manage(tmp_path, {"LOG_FORMAT": "json", "LOG_LEVEL": "DEBUG"}, "shell", "--no-imports", "-c", code)
    assert ended.stdout.split() == ["10"], "the level of LOG_LEVEL, not Celery's own"
    said = [json.loads(line)["message"] for line in ended.stderr.splitlines()]
    assert said.count("no port") == 1
    assert "a detail" in said


@pytest.mark.django_db
def test_jobs_that_no_worker_ended_are_counted_and_in_the_journal(
    client: Client, settings: Any, version: ModelVersion, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    kept: Counter[str] = Counter()
    redis = SimpleNamespace(hincrby=lambda _, name, number: kept.update({name: number}), hgetall=lambda _: kept)
    monkeypatch.setattr(events, "connection", cache(lambda: redis))
    monkeypatch.setattr(events, "publish_many", lambda _: None)
    caplog.set_level("INFO", logger="unroll.journal")
    owner = Owner(session="anna")
    batch, _ = submission.submit_batch(TASK, [{"inputs": {"text": "one"}}, {"inputs": {"text": "two"}}], owner=owner)
    assert services.cancel_batch(batch) == 2
    job = submission.submit(submission.check(TASK, {"text": "three"}, owner=owner), owner=owner)
    assert services.cancel(job)
    assert not services.cancel(job), "once"
    lost = submission.submit(submission.check(TASK, {"text": "four"}, owner=owner), owner=owner)
    long_ago = timezone.now() - timedelta(hours=1)
    Job.objects.filter(pk=lost.pk).update(
        status=Status.RUNNING, attempts=settings.MAX_ATTEMPTS, lease_token=uuid4(), lease_until=long_ago
    )
    upkeep.sweep()
    assert journal.counted() == {(TASK, "cancelled"): 3, (TASK, "failed"): 1}
    settings.METRICS_TOKEN = "right"
    page = client.get("/metrics", headers={"Authorization": "Bearer right"}).content.decode()
    assert f'unroll_jobs_total{{outcome="failed",task="{TASK}",worker=""}} 1.0' in page
    ended = [(r.message, r.status, getattr(r, "jobs", None)) for r in caplog.records if r.name == "unroll.journal"]
    assert ended == [
        ("jobs of a batch ended", "cancelled", 2),
        ("job ended", "cancelled", None),
        ("job ended", "failed", None),
    ]
    assert not any("three" in str(vars(record)) for record in caplog.records)


def test_the_compose_file_names_what_there_is() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    services_there = compose["services"]
    assert {"postgres", "redis", "setup", "web", "fast", "slow", "gpu", "beat", "nginx"} == set(services_there)
    assert services_there["gpu"]["profiles"] == ["gpu"]
    stages = re.findall(r"^FROM \S+ AS (\w+)$", (ROOT / "Dockerfile").read_text(), re.M)
    for name, service in services_there.items():
        if "build" in service:
            assert service["build"]["target"] in stages, name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (ROOT / source).exists(), f"{name} mounts {source}"
        for needed in service.get("depends_on", {}):
            assert needed in services_there
        _check_command(service)
    assert "torch" not in (ROOT / "requirements" / "web.txt").read_text()


def _check_command(service: dict[str, Any]) -> None:
    """Each part of a command that names something of ours names something there is."""
    for part in re.split(r"&&|(?:sh -c)", service.get("command", "").replace('"', " ")):
        words = shlex.split(part)
        if "-m" in words:
            assert find_spec(words[words.index("-m") + 1]), words
        if words[1:2] == ["manage.py"]:
            assert words[2] in get_commands(), words
        if "celery" in words and "worker" in words:
            queues = words[words.index("--queues") + 1].split(",")
            assert queues == [service["environment"]["WORKER_QUEUES"], "control"]
            assert find_spec(words[words.index("--include") + 1]), words


def test_the_compose_file_passes_every_setting_on() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    for name in ("setup", "web", "fast", "slow", "gpu", "beat"):
        assert compose["services"][name]["env_file"] == [".env"]


def test_empty_lines_of_an_env_file_ask_for_nothing(tmp_path: Path) -> None:
    found = re.findall(r'(?:_text|_flag|_names|_networks)\("(\w+)"', (ROOT / "webapp" / "settings.py").read_text())
    empty = dict.fromkeys(set(found) - {"UNROLL_STATE"}, "")
    assert len(empty) > 25
    code = "from django.conf import settings; print(settings.EMAIL_USE_TLS, settings.RETENTION_DAYS, settings.ACCESS)"
    ended = manage(tmp_path, empty, "shell", "--no-imports", "-c", code)
    assert ended.stdout.split() == ["True", "30", "open"], ended.stderr


def test_a_secret_is_made_once_whole_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "secret-key"
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: read_or_make(path), range(8)))
    (secret,) = found
    assert len(secret) >= 50
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]
    path.write_text("")  # a full disk
    assert len(read_or_make(path)) >= 50
