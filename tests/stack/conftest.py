"""The whole product as real processes: launcher, supervisor, Redis, web, workers, beat."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import redis
import redis.exceptions
from playwright.sync_api import Browser, Page, sync_playwright
from supervisor.xmlrpc import SupervisorTransport

from mlcore.bundle import Bundle
from tests.services import free_port
from tests.translator import make_translator
from tests.writer import make_writer

from .browsing import CHROMIUM, opened

ROOT = Path(__file__).resolve().parent.parent.parent
TASK = "sentiment-analysis"
_NOT_PASSED_ON = ("DJANGO_SETTINGS_MODULE", "REDIS_URL", "DATABASE_URL")
SERVICES = os.environ.get("UNROLL_TEST_SERVICES") == "1"  # make test-services: no SQLite, no embedded Redis
# asked every tenth of a second: a client of its own each time would spend more on TLS settings than servers on answers;
# a connection of its own, because servers are killed here
web = httpx.Client(verify=False, limits=httpx.Limits(max_keepalive_connections=0), timeout=20)
COPIED = ("mlcore", "webapp", "templates", "static", "deploy", "tests", "manage.py")


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait until `condition()` is true, and return what it gave."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := condition():
                return found
        except (httpx.HTTPError, OSError, http.client.HTTPException, redis.exceptions.ConnectionError):
            pass
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


@dataclass
class Stack:
    """One running product."""

    checkout: Path
    state: Path
    port: int = field(default_factory=free_port)
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    own_redis: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.state.parent / f"{self.state.name}.log").read_text(errors="replace")

    def start(self) -> None:
        """As `make run` does, after its installs."""
        if SERVICES and "REDIS_URL" not in self.environment:
            self._bring_services()
        environment = {
            **{name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON},
            "UNROLL_STATE": str(self.state),
            "PORT": str(self.port),
            "WORKER_THREADS": "1",
            "PYTHONPATH": str(self.checkout),
            **self.environment,
        }
        with (self.state.parent / f"{self.state.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "webapp.launch"],
                cwd=self.checkout,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(lambda: web.get(f"{self.url}/healthz/ready").status_code == 200, 120)

    def _bring_services(self) -> None:
        """A database of its own on the PostgreSQL of this run, a Redis of its own on loopback."""
        server, name = os.environ["DATABASE_URL"], f"stack_{self.port}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        redis_port = free_port()
        self.environment |= {
            "DATABASE_URL": f"{server.rpartition('/')[0]}/{name}",
            "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
        }
        self.start_redis()

    def start_redis(self) -> None:
        """Let Redis answer."""
        if not SERVICES:
            self.supervisor.startProcess("redis")
            return
        port = self.environment["REDIS_URL"].rpartition(":")[2].partition("/")[0]
        command = ["redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no"]
        self.own_redis = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=self.state.parent)
        until(redis.Redis.from_url(self.environment["REDIS_URL"]).ping)

    def stop_redis(self) -> None:
        """Let it answer no more."""
        if not SERVICES:
            self.supervisor.stopProcess("redis")
        elif self.own_redis:
            self.own_redis.terminate()
            self.own_redis.wait(timeout=20)

    def empty_redis(self) -> None:
        """Forget all that it holds."""
        from webapp.launch import run_folder

        url = self.environment.get("REDIS_URL") or f"unix://{run_folder(self.state)}/redis.sock"
        redis.Redis.from_url(url).flushall()

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """As Ctrl-C does, or another signal."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(timeout=40)

    def end(self) -> None:
        """Stop it, and what it was given."""
        self.stop()
        if self.own_redis:
            self.own_redis.kill()
            self.own_redis.wait()

    def kill_everything(self) -> None:
        """As a power cut does."""
        pids = [p["pid"] for p in self.supervisor.getAllProcessInfo() if p["pid"]]
        assert self.process
        for pid in [self.process.pid, *pids]:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()

    @property
    def supervisor(self) -> Any:
        import xmlrpc.client

        from webapp.launch import run_folder

        transport = SupervisorTransport(None, None, f"unix://{run_folder(self.state)}/supervisor.sock")
        return xmlrpc.client.ServerProxy("http://127.0.0.1", transport).supervisor

    def manage(self, *arguments: str, ends_with: int = 0) -> str:
        """Run manage.py beside it; what it said."""
        environment = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
        ended = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=self.checkout,
            env={**environment, "UNROLL_STATE": str(self.state), **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in ended.stderr, ended.stderr
        assert ended.returncode == ends_with, ended.stderr
        return ended.stdout + ended.stderr

    def pid(self, program: str) -> int:
        return int(self.supervisor.getProcessInfo(program)["pid"])

    def kill(self, program: str) -> None:
        os.kill(self.pid(program), signal.SIGKILL)

    def post(self, text: str, *, wait: int = 0) -> dict[str, Any]:
        """Create a job; its answer."""
        headers = {"Prefer": f"wait={wait}"} if wait else {}
        answer = web.post(
            f"{self.url}/api/v1/jobs", json={"task": TASK, "inputs": {"text": text}}, headers=headers, timeout=40
        )
        assert answer.status_code in (200, 202), answer.text
        return answer.json()  # type: ignore[no-any-return]

    def get(self, job: dict[str, Any]) -> dict[str, Any]:
        """A job as it stands."""
        return web.get(self.url + job["urls"]["get"]).json()  # type: ignore[no-any-return]

    def finish(self, job: dict[str, Any], seconds: float = 60) -> dict[str, Any]:
        """A job when it is over."""
        until(lambda: self.get(job)["status"] in ("succeeded", "failed", "cancelled"), seconds)
        return self.get(job)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The product with its shipped bundles, shared by the tests that leave it as it was."""
    running = Stack(ROOT, tmp_path_factory.mktemp("stack") / "state")
    running.start()
    yield running
    running.end()


def copy_checkout(folder: Path, bundles: Iterable[Bundle]) -> Path:
    """The product's files in a folder of their own, with these bundles as the shipped ones."""
    folder.mkdir()
    skip = shutil.ignore_patterns("__pycache__", "bundles")
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name, **({"ignore": skip} if (ROOT / name).is_dir() else {}))  # type: ignore[operator]
    for bundle in bundles:
        shutil.copytree(bundle.path, folder / "mlcore" / "bundles" / bundle.task / bundle.variant)
    return folder


@pytest.fixture(scope="session")
def tiny_stack(tmp_path_factory: pytest.TempPathFactory, tiny_bundles: dict[str, Bundle]) -> Iterator[Stack]:
    """The product with a tiny untrained bundle of every task, but a translator that knows a few sentences and a slow
    writer."""
    folder = tmp_path_factory.mktemp("tiny")
    bundles = {
        **tiny_bundles,
        "translation": make_translator(tmp_path_factory.mktemp("translator")),
        "text-generation": make_writer(tmp_path_factory.mktemp("writer")),
    }
    running = Stack(copy_checkout(folder / "checkout", bundles.values()), folder / "state")
    running.start()
    yield running
    running.end()


@contextmanager
def _sabotaged(folder: Path, bundle: Bundle) -> Iterator[Stack]:
    """A copy of the checkout with a tiny bundle, short patience, and texts that do harm."""
    checkout = copy_checkout(folder / "checkout", [bundle])
    conf = folder / "supervisord.conf"
    text = (ROOT / "deploy" / "supervisord.conf").read_text()
    assert "--include webapp.jobs.worker" in text
    conf.write_text(text.replace("--include webapp.jobs.worker", "--include webapp.jobs.worker,tests.stack.saboteur"))
    environment = {"UNROLL_SUPERVISOR_CONF": str(conf), "STEP_TIMEOUT_S": "3", "LEASE_S": "4"}
    running = Stack(checkout, folder / "state", environment=environment)
    try:
        running.start()
        yield running
    finally:
        running.end()


@pytest.fixture(scope="session")
def saboteur(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Bundle) -> Iterator[Stack]:
    """One such product, shared by the tests that leave it running on its first version."""
    with _sabotaged(tmp_path_factory.mktemp("saboteur"), tiny_bundle) as running:
        yield running


@pytest.fixture
def own_saboteur(tmp_path: Path, tiny_bundle: Bundle) -> Iterator[Stack]:
    """Another, for a test that does not."""
    with _sabotaged(tmp_path, tiny_bundle) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests."""
    assert CHROMIUM, "browser tests are required here, but there is no Chromium on PATH"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield started
        started.close()


@pytest.fixture(params=[("desktop", "light"), ("phone", "dark")], ids="-".join)
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A person's page, on a desk by day and on a phone by night."""
    with opened(browser, *request.param) as page:
        yield page
