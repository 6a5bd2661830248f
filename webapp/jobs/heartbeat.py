"""The thread of a worker that says it lives, keeps its leases, and ends the process when a step hangs."""

from __future__ import annotations

import logging
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection
from django.utils import timezone

from webapp.jobs import claims
from webapp.jobs.models import Worker
from webapp.jobs.stats import Stats

logger = logging.getLogger(__name__)
HUNG = 70  # exit status of a worker that ended itself


def memory_mb() -> int:
    """Resident memory of this process in MiB (its peak where /proc is missing)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak >> (20 if sys.platform == "darwin" else 10)
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


class Heartbeat(threading.Thread):
    """Writes the worker's row each second and renews its leases, but only while work moves.

    Celery's time limits do not reach a process that computes in its main thread, so a step that takes longer than
    STEP_TIMEOUT_S ends the process: the supervisor starts it again and the attempt counts.
    """

    def __init__(self, queues: Sequence[str], *, device: str = "", stats: Stats | None = None) -> None:
        super().__init__(name="heartbeat", daemon=True)
        host, pid = socket.gethostname()[:100], os.getpid()
        self.row = Worker(
            name=f"{'+'.join(queues)}@{host}:{pid}:{int(time.time())}",
            host=host,
            pid=pid,
            queues=list(queues),
            device=device,
        )
        self.stats = stats or Stats()
        self.tokens: set[UUID] = set()
        self.busy_since: float | None = None  # monotonic; the start of the step under way
        self.worked_until = 0.0  # monotonic; the end of the last one
        self.stopping = threading.Event()

    def begin_step(self) -> None:
        """A step starts now; it has STEP_TIMEOUT_S."""
        self.busy_since = time.monotonic()

    def end_step(self) -> None:
        """The step is over."""
        self.busy_since = None
        self.worked_until = time.monotonic()

    def run(self) -> None:
        """Beat until the process ends."""
        renewed = 0.0
        while not self.stopping.wait(1.0):
            since = self.busy_since
            if since is not None and time.monotonic() - since > settings.STEP_TIMEOUT_S:
                logger.error("a step took longer than %g s: ending this worker", settings.STEP_TIMEOUT_S)
                os._exit(HUNG)
            try:
                self.write()
                if self.tokens and time.monotonic() - renewed > settings.LEASE_S / 3:
                    claims.renew(set(self.tokens))
                    renewed = time.monotonic()
            except DatabaseError:
                logger.exception("the database does not take the heartbeat")
                close_old_connections()
        connection.close()

    def note_error(self, sentence: str) -> None:
        """What went wrong last; nothing of what people sent."""
        self.row.last_error = f"{timezone.now():%Y-%m-%d %H:%M} UTC: {sentence}"[:300]

    def write(self) -> None:
        """Store the row as it is now."""
        self.row.memory_mb = memory_mb()
        self.row.stats = self.stats.snapshot()
        self.row.seen_at = timezone.now()
        values = {field.name: getattr(self.row, field.name) for field in Worker._meta.fields if field.name != "id"}
        Worker.objects.update_or_create(name=self.row.name, defaults=values)

    def stop(self) -> None:
        """Leave: the row goes at once, so that pages know."""
        self.stopping.set()
        if self.is_alive():
            self.join(timeout=3)
        Worker.objects.filter(name=self.row.name).delete()
