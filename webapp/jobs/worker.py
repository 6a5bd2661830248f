"""The worker functions that Celery calls."""

from __future__ import annotations

import logging
import os
import time
from typing import Any

from celery import shared_task
from celery.signals import worker_ready, worker_shutdown, worker_shutting_down
from django.conf import settings

from mlcore.predictor import choose_device, set_threads
from webapp.jobs import services, upkeep
from webapp.jobs.server import Server

logger = logging.getLogger(__name__)
_server: Server | None = None
_PAUSE_S = 1.0


def server() -> Server:
    """This process's server; made on first use."""
    global _server
    if _server is None:
        queues = os.environ.get("WORKER_QUEUES", "fast").split(",")
        _server = Server(queues, device=choose_device(settings.DEVICE))
    return _server


@shared_task(name="jobs.serve")
def serve(queue: str) -> None:
    """Work on what is queued; a wake-up for a queue that another worker emptied costs one query."""
    more = True  # after an error too: what was let go waits
    try:
        more = server().serve()
    except Exception:
        time.sleep(_PAUSE_S)  # as long as the database is away, the next shift ends like this one
        raise
    finally:
        if more:
            services.wake(queue)


@shared_task(name="jobs.sweep")
def sweep() -> None:
    """Nothing is lost: put back what silent workers held, and wake workers for what waits."""
    found = upkeep.sweep()
    if found:
        logger.warning("put %d jobs of silent workers back into the queue", found)


@shared_task(name="jobs.retention")
def retention() -> None:
    """Erase what is older than it is kept."""
    upkeep.delete_old()


@worker_ready.connect
def _start(**_: Any) -> None:
    """Begin; Celery swallows what goes wrong here and would go on without a heartbeat, so then the process ends."""
    try:
        _begin()
    except Exception:
        logger.exception("this worker cannot start")
        time.sleep(1.0)
        os._exit(1)  # the supervisor starts it again


def _begin() -> None:
    set_threads(settings.WORKER_THREADS)
    upkeep.sweep()
    server().heartbeat.write()
    server().heartbeat.start()
    server().preload()
    server().caretaker.look()
    server().caretaker.start()
    for queue in server().queues:
        services.wake(queue)


@worker_shutting_down.connect
def _stop_claiming(**_: Any) -> None:
    server().stopping = True


@worker_shutdown.connect
def _leave(**_: Any) -> None:
    server().caretaker.stopping.set()
    server().heartbeat.stop()
