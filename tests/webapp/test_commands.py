"""manage.py's own commands: versions, jobs, the doctor, backup and restore."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test import Client

from mlcore.bundle import Bundle
from tests.conftest import make_bundle
from webapp import launch
from webapp.jobs import backup, doctor
from webapp.jobs.heartbeat import Heartbeat
from webapp.jobs.models import File, Job, Status
from webapp.registry import services as registry
from webapp.registry.models import ModelVersion

from .conftest import TASK

ROOT = Path(__file__).resolve().parent.parent.parent


def run(name: str, *arguments: Any, **options: Any) -> str:
    out = io.StringIO()
    call_command(name, *arguments, stdout=out, **options)
    return out.getvalue()


def test_versions_are_installed_switched_and_rolled_back(version: ModelVersion, tmp_path: Path) -> None:
    second = make_bundle(TASK, tmp_path, version=2)
    assert f"{TASK}/en@2 is installed (staged)" in run("install_bundle", str(second.path))
    assert "in place of" in run("activate", f"{TASK}/en@2", reason="better")
    assert "was active already" in run("activate", f"{TASK}/en@2")
    assert f"{TASK}/en@1 answers again" in run("roll_back", f"{TASK}/en")
    for name in (f"{TASK}/en@9", "nonsense"):
        with pytest.raises(CommandError, match="Installed: "):
            run("activate", name)
    with pytest.raises(CommandError, match="no folder"):
        run("install_bundle", str(tmp_path / "missing"))
    with pytest.raises(CommandError, match="no earlier version"):
        run("roll_back", "translation/multi")
    (tmp_path / "bundle" / "weights.safetensors").write_bytes(b"broken")
    with pytest.raises(CommandError, match="weights"):
        run("install_bundle", str(tmp_path / "bundle"))


def test_failed_jobs_run_again(client: Client, version: ModelVersion, run_jobs: Callable[[], None]) -> None:
    for text in ("one", "two"):
        client.post(f"/tasks/{TASK}/run", {"text": text})
    Job.objects.update(status=Status.FAILED)
    assert run("jobs_requeue", task="translation").startswith("0 jobs")
    assert run("jobs_requeue").startswith("2 jobs")
    run_jobs()
    assert Job.objects.filter(status=Status.SUCCEEDED).count() == 2
    with pytest.raises(CommandError, match="Known: "):
        run("jobs_requeue", task="nonsense")
    assert run("retention").startswith("0 jobs")


def test_the_doctor_names_what_is_wrong(version: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = " ".join(doctor.examine())
    assert "Redis does not answer" in faults
    assert "No worker serves the queue “fast”" in faults
    (registry.bundle_path(version) / "card.md").write_text("changed")
    assert "is damaged" in " ".join(doctor.examine())
    with pytest.raises(SystemExit):
        run("doctor")


def test_the_doctor_finds_a_healthy_server_healthy(version: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_redis", lambda: iter(()))
    for queue in ("fast", "slow"):
        Heartbeat([queue]).write()
    assert run("doctor") == "Nothing is wrong.\n"


@pytest.mark.parametrize(("number", "faults"), [("6.2.7", 1), ("7.2.4", 0), ("10.0", 0)])
def test_the_doctor_refuses_a_redis_that_refuses_events(
    number: str, faults: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Mock(**{"time.return_value": (int(time.time()), 0), "info.return_value": {"redis_version": number}})
    monkeypatch.setattr(doctor, "events", Mock(**{"connection.return_value": server}))
    found = list(doctor._redis())
    assert len(found) == faults
    assert all(f"Redis is {number}" in said for said in found)


@pytest.mark.parametrize(("told", "taken"), [("Redis server v=6.0.16 sha=0", False), ("Redis server v=7.0.15", True)])
def test_an_old_redis_on_the_path_is_passed_over(
    told: str, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = tmp_path / "redis-server"
    server.write_text(f"#!/bin/sh\necho '{told}'\n")
    server.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (launch.find_redis() == str(server)) is taken


WRITTEN_MEANWHILE = """
import sqlite3, sys
from pathlib import Path
from django.conf import settings
from django.contrib.auth.models import Group
from webapp.jobs import backup

plain = backup.call_command

def dump(name, *arguments, **options):
    Group.objects.count()
    other = sqlite3.connect(settings.DATABASES["default"]["NAME"], timeout=5)
    other.execute("INSERT INTO auth_group (name) VALUES ('meanwhile')")
    other.commit()
    return plain(name, *arguments, **options)

backup.call_command = dump
backup.write(Path(settings.STATE_DIR) / "a.tar.gz")
print(Group.objects.filter(name="meanwhile").count())
"""


def test_a_backup_is_of_one_moment_and_nobody_waits_for_it(tmp_path: Path) -> None:
    environment = {**os.environ, "UNROLL_STATE": str(tmp_path), "DATABASE_URL": ""}
    for arguments in (["migrate", "-v0"], ["shell", "--no-imports", "-c", WRITTEN_MEANWHILE]):
        ended = subprocess.run(
            [sys.executable, "manage.py", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
        )
        assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["1"]
    with tarfile.open(tmp_path / "a.tar.gz") as archive:
        rows = archive.extractfile(backup.ROWS)
        assert rows is not None
        text = rows.read().decode()
    assert '"viewer"' in text
    assert "meanwhile" not in text
    assert (tmp_path / "a.tar.gz").stat().st_mode & 0o077 == 0


def test_a_backup_brings_everything_back(
    client: Client, version: ModelVersion, run_jobs: Callable[[], None], tmp_path: Path, tiny_bundles: dict[str, Bundle]
) -> None:
    registry.activate(registry.install(tiny_bundles["translation"].path))
    client.post(f"/tasks/{TASK}/run", {"text": "A good film."})
    sent = SimpleUploadedFile("brief.txt", "Der Hund schläft im Garten.".encode())
    client.post("/tasks/translation/document", {"document": sent, "option-source": "de"})
    run_jobs()
    outputs = sorted(str(job.content.output) for job in Job.objects.select_related("content"))
    path = tmp_path / "backup.tar.gz"
    assert "2 jobs, 1 files and 2 bundles" in run("backup", str(path))
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(CommandError, match="there already"):
        run("backup", str(path))
    with pytest.raises(CommandError, match="holds jobs already"):
        run("restore", str(path))
    key = File.objects.get().key
    Job.objects.all().delete()
    File.objects.all().delete()
    assert "2 jobs, 1 files" in run("restore", str(path))
    assert sorted(str(job.content.output) for job in Job.objects.select_related("content")) == outputs
    assert {str(v) for v in ModelVersion.objects.filter(status="active")} == {f"{TASK}/en@1", "translation/multi@1"}
    fresh = {**os.environ, "UNROLL_STATE": str(tmp_path / "fresh"), "DATABASE_URL": ""}
    ended = subprocess.run(
        [sys.executable, "manage.py", "restore", str(path)], cwd=ROOT, env=fresh, capture_output=True, text=True
    )
    assert "2 jobs, 1 files and 2 bundles" in ended.stdout, ended.stderr
    assert (tmp_path / "fresh" / "media" / key).read_bytes() == "Der Hund schläft im Garten.".encode()
    assert len([Bundle.open(folder) for folder in (tmp_path / "fresh" / "bundles").iterdir()]) == 2
    (tmp_path / "no.tar.gz").write_bytes(b"nothing")
    Job.objects.all().delete()
    File.objects.all().delete()
    with pytest.raises(CommandError, match="no backup"):
        run("restore", str(tmp_path / "no.tar.gz"))
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as archive:
        archive.add(path, "x")
    with pytest.raises(CommandError, match="holds no rows"):
        run("restore", str(tmp_path / "other.tar.gz"))
