"""What operating costs: `python -m benchmarks.operating` writes benchmarks/results/operating.json.

Switches of versions under load beside a quiet run, memory before and after a version is retired, and pages with a
million stored jobs beside the same pages with none.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from benchmarks.__main__ import RESULTS, machine
from benchmarks.stack import ROOT, TASK, Product, running

ROWS = 1_000_000
USERS, WORDS, SECONDS = 8, 20, 20
SETTLE_S = 4.0  # a worker's row is written each second
_SWITCH = """
import sys, time, django; django.setup()
from webapp.jobs import queries, switching
from webapp.registry import services
from webapp.registry.models import ModelVersion
versions = [ModelVersion.objects.get(task=sys.argv[1], version=int(number)) for number in sys.argv[2:4]]
time.sleep(float(sys.argv[4]))  # until the users are warm
until, turns = time.monotonic() + float(sys.argv[5]), 0
while time.monotonic() < until:
    turns += 1
    switching.switch_and_wait(versions[turns % 2], reason=f"benchmark {turns}")
    left = versions[1 - turns % 2]  # which is let go, so that the next switch loads it again
    services.retire(left)
    while any(str(left) in worker.loaded for worker in queries.live_workers()):
        time.sleep(0.1)
print(turns)
"""
_RETIRE = """
import sys, django; django.setup()
from webapp.jobs import switching
from webapp.registry import services
from webapp.registry.models import ModelVersion
first, second = (ModelVersion.objects.get(task=sys.argv[1], version=int(number)) for number in sys.argv[2:4])
if sys.argv[4] == "load":
    switching.switch_and_wait(second)
else:
    if second.status == "active":
        switching.switch_and_wait(first)
        second.refresh_from_db()
    services.retire(second)
"""
_SIGN_IN = """
import django; django.setup()
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
root = User.objects.create_superuser("bench", password="bench")
session = SessionStore()
session[SESSION_KEY], session[HASH_SESSION_KEY] = str(root.pk), root.get_session_auth_hash()
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session.create()
print(session.session_key)
"""
PAGES = {
    "dashboard": "/admin/",
    "jobs, newest": "/admin/jobs/job/",
    "jobs, page 50": "/admin/jobs/job/?p=50",
    "jobs, failed": "/admin/jobs/job/?status__exact=failed",
    "jobs, failed, of one task": f"/admin/jobs/job/?status__exact=failed&task={TASK}",
    "jobs, older than a week": "/admin/jobs/job/?age=older",
    "jobs of one person": "/admin/jobs/job/?q=bench",
    "own history": "/history/",
    "ready check": "/healthz/ready",
}


def _run(product: Product, code: str, *arguments: str) -> str:
    environment = {
        **os.environ,
        "UNROLL_STATE": str(product.state),
        "DJANGO_SETTINGS_MODULE": "webapp.settings",
        "LOG_LEVEL": "ERROR",
    }
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def _install_second(product: Product, folder: Path) -> tuple[int, int]:
    """The shipped version, and a copy of it that calls itself the next one."""
    copied = shutil.copytree(ROOT / "mlcore" / "bundles" / TASK / "en", folder / "second")
    config = copied / "config.json"
    manifest = json.loads(config.read_text())
    first = int(manifest["version"])
    manifest["version"] = first + 1
    config.write_text(json.dumps(manifest))
    environment = {**os.environ, "UNROLL_STATE": str(product.state)}
    command = [sys.executable, "manage.py", "install_bundle", str(copied)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    return first, first + 1


def switching(product: Product, versions: tuple[int, int]) -> dict[str, Any]:
    """p95 of users in a closed loop, quiet and while versions are loaded, switched to and retired in turn."""
    product.load(USERS, 5, WORDS)
    quiet = product.load(USERS, SECONDS, WORDS)
    said: list[str] = []
    numbers = [str(number) for number in versions]
    thread = threading.Thread(
        target=lambda: said.append(_run(product, _SWITCH, TASK, *numbers, str(SECONDS / 4), str(SECONDS * 3 / 4)))
    )
    thread.start()
    busy = product.load(USERS, SECONDS, WORDS)
    thread.join()
    return {
        "switches": int(said[0]),
        "failed": quiet["failed"] + busy["failed"],
        "quiet_ms": quiet["latency_ms"],
        "switching_ms": busy["latency_ms"],
        "p95_ratio": round(busy["latency_ms"]["p95"] / quiet["latency_ms"]["p95"], 2),
    }


def retiring(product: Product, versions: tuple[int, int]) -> dict[str, int]:
    """Resident MB of the fast worker: as it was, with a second version in memory, and after that one is retired.

    One is loaded and retired before: what the loading thread needs once, some 20 MB, is no version's.
    """
    numbers = [str(number) for number in versions]
    for step in ("retire", "load", "retire"):
        _run(product, _RETIRE, TASK, *numbers, step)
        time.sleep(SETTLE_S)
    found = {"one version": product.memory_mb()["fast"]}
    _run(product, _RETIRE, TASK, *numbers, "load")
    time.sleep(SETTLE_S)
    found["two versions"] = product.memory_mb()["fast"]
    _run(product, _RETIRE, TASK, *numbers, "retire")
    time.sleep(SETTLE_S)
    found["retired again"] = product.memory_mb()["fast"]
    return found


def _fill(state: Path) -> None:
    """A million jobs of the last month that ended, of a thousand browsers, a fiftieth failed, straight into SQLite."""
    with sqlite3.connect(state / "db.sqlite3", timeout=60) as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(jobs_job)")]
        chosen = {
            "id": "lower(hex(randomblob(16)))",
            "status": "CASE WHEN n % 50 = 0 THEN 'failed' ELSE 'succeeded' END",
            "session": "printf('%032x', n % 1000)",
            "user_id": "CASE WHEN n % 1000 = 1 THEN (SELECT id FROM auth_user LIMIT 1) END",
            "created_at": "strftime('%Y-%m-%d %H:%M:%f', 'now', printf('-%d seconds', 3 + n * 2))",
            "started_at": "strftime('%Y-%m-%d %H:%M:%f', 'now', printf('-%d seconds', 2 + n * 2))",
            "finished_at": "strftime('%Y-%m-%d %H:%M:%f', 'now', printf('-%d seconds', 1 + n * 2))",
            "summary": "printf('Number %d of a million', n)",
        }
        values = ", ".join(chosen.get(name, f'"{name}"') for name in columns)
        names = ", ".join(f'"{name}"' for name in columns)
        database.execute(
            f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {ROWS}) "
            f"INSERT INTO jobs_job ({names}) SELECT {values} FROM numbers, (SELECT * FROM jobs_job LIMIT 1)"
        )
        database.execute(
            "INSERT INTO jobs_jobcontent (job_id, inputs, options, error_field, error_message) "
            "SELECT id, '{\"text\": \"x\"}', '{}', '', '' FROM jobs_job "
            "WHERE id NOT IN (SELECT job_id FROM jobs_jobcontent)"
        )
        database.commit()
        database.execute("ANALYZE")


def _times(product: Product, cookie: str) -> dict[str, float]:
    """Median ms of each page, and of a job from submit to answer."""
    found = {}
    for name, place in PAGES.items():
        request = urllib.request.Request(product.url + place, headers={"Cookie": f"sessionid={cookie}"})
        seconds = []
        for _ in range(7):
            started = time.monotonic()
            with urllib.request.urlopen(request, timeout=120) as answer:
                answer.read()
            seconds.append(time.monotonic() - started)
        found[name] = round(1000 * statistics.median(seconds[1:]), 1)
    found["a job"] = product.load(1, 6, 20)["latency_ms"]["p50"]
    return found


def million(product: Product) -> dict[str, Any]:
    """Pages and jobs with hardly any row stored, then with a million."""
    cookie = _run(product, _SIGN_IN)
    empty = _times(product, cookie)
    _fill(product.state)
    full = _times(product, cookie)
    return {
        name: {"few_ms": empty[name], "million_ms": full[name], "ratio": round(full[name] / empty[name], 2)}
        for name in empty
    }


def main() -> None:
    """Measure all and write it down."""
    with tempfile.TemporaryDirectory(prefix="unroll-bench-") as name:
        folder = Path(name)
        with running(folder / "state") as product:
            versions = _install_second(product, folder)
            found = {
                "machine": machine(),
                "switching": switching(product, versions),
                "memory_mb": retiring(product, versions),
                "million": million(product),
            }
    (RESULTS / "operating.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
