"""The thread of a worker that keeps the right models in memory, beside the one that works.

It loads versions that are wanted before they answer, settles the switch when every worker of the task's queue is warm,
lets go of retired and idle ones, and notices queues that an operator paused.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import DatabaseError, close_old_connections, connection
from django.utils import timezone

from mlcore.errors import BundleError
from webapp.jobs import queries, services, upkeep
from webapp.jobs.models import Queue
from webapp.registry import services as registry
from webapp.registry.models import ModelVersion

if TYPE_CHECKING:
    from webapp.jobs.server import Server

logger = logging.getLogger(__name__)
PATIENCE = timedelta(seconds=60)  # a worker that does not get warm in this time holds up no switch
SWEEP_S = 10.0  # between its looks after lost jobs
QUIET_S = 5.0  # without work before its memory is given back


class Caretaker(threading.Thread):
    """Looks once a second; what it loads, the server finds in `Server.loaded`."""

    def __init__(self, server: Server) -> None:
        super().__init__(name="caretaker", daemon=True)
        self.server = server
        self.stopping = threading.Event()
        self.swept = time.monotonic()  # when it last looked after lost jobs
        self.tidied = 0.0  # the end of the work whose memory was given back

    def run(self) -> None:
        """Look until the process ends."""
        while not self.stopping.wait(1.0):
            try:
                self.look()
            except DatabaseError:
                logger.exception("the database does not answer the caretaker")
                close_old_connections()
            except Exception:
                logger.exception("the caretaker failed")
        connection.close()

    def look(self) -> None:
        """Everything once."""
        self._notice_pauses()
        for version in registry.wanted():
            if registry.queue_of(version.task) in self.server.queues:
                self._warm(version)
        self._unload()
        self._tidy()
        if time.monotonic() - self.swept > SWEEP_S:  # a long shift leaves the scheduler's sweeps unread
            upkeep.put_back()
            self.swept = time.monotonic()

    def _tidy(self) -> None:
        """What the largest batches needed is not kept through the quiet hours."""
        heartbeat = self.server.heartbeat
        ended, quiet = heartbeat.worked_until, heartbeat.busy_since is None and not self.server.running
        if quiet and ended > self.tidied and time.monotonic() - ended > QUIET_S:
            self.tidied = ended
            self.server.loaded.tidy()

    def _notice_pauses(self) -> None:
        paused = set(Queue.objects.filter(paused=True).values_list("name", flat=True))
        resumed = self.server.paused - paused
        self.server.paused = paused
        for queue in resumed & set(self.server.queues):
            services.wake(queue)

    def _warm(self, version: ModelVersion) -> None:
        try:
            self.server.loaded.load(version)
        except BundleError as error:
            registry.mark_faulty(version, str(error))
            ModelVersion.objects.filter(pk=version.pk).update(wanted_at=None)
            return
        others = queries.live_workers(registry.queue_of(version.task))
        cold = [w for w in others if w.name != self.server.heartbeat.row.name and str(version) not in w.loaded]
        late = version.wanted_at is not None and timezone.now() - version.wanted_at > PATIENCE
        if (not cold or late) and registry.settle(version):
            logger.info("%s answers now", version)

    def _unload(self) -> None:
        """Let go of retired versions, and of those that nobody asked for a while where their task says so."""
        gone = set(
            ModelVersion.objects.filter(
                pk__in=list(self.server.loaded.predictors), retired_at__isnull=False
            ).values_list("pk", flat=True)
        )
        idle = registry.idle_minutes()
        loaded = self.server.loaded
        for pk, predictor in list(loaded.predictors.items()):
            minutes = idle.get(predictor.bundle.task, 0)
            unwanted = pk in gone or (minutes and loaded.unused_s(pk) > 60 * minutes)
            if unwanted and pk not in self.server.running:
                loaded.unload(pk)
