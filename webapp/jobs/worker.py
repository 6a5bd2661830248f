"""The worker functions that Celery calls: claim jobs, run them in batches, store answers. The only door to torch."""

from __future__ import annotations

import logging
import os
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from celery import shared_task
from celery.signals import worker_ready, worker_shutdown, worker_shutting_down
from django.conf import settings

from mlcore import task as tasks
from mlcore.bundle import Bundle
from mlcore.errors import BundleError, InvalidInput
from mlcore.predictor import Engine, Failed, Final, Partial, Predictor, self_test, set_threads
from webapp.jobs import claims, events, files, services, upkeep
from webapp.jobs.heartbeat import Heartbeat
from webapp.jobs.models import Job, Status
from webapp.registry import services as registry
from webapp.registry.models import ModelVersion

logger = logging.getLogger(__name__)
SHIFT_S = 5.0  # a worker function runs about so long, then wakes itself, so that Celery stays responsive
CANCEL_CHECK_S = 0.2
MAX_LOADED = 6  # versions in memory; the one unused for longest goes first


class Server:
    """What one worker process keeps: loaded predictors and its heartbeat."""

    def __init__(self, queues: Sequence[str], *, device: str = "auto") -> None:
        self.queues = list(queues)
        self.device = device
        self.predictors: OrderedDict[int, Predictor] = OrderedDict()
        self.heartbeat = Heartbeat(self.queues, device=device)
        self.stopping = False

    def serve(self) -> bool:
        """Work for one shift; True when there may be more."""
        end = time.monotonic() + SHIFT_S
        while not self.stopping and time.monotonic() < end:
            jobs = self._claim()
            if not jobs:
                return False
            self._run(jobs)
        return not self.stopping

    def _claim(self, *, limit: int = 0, key: str = "") -> list[Job]:
        most = max(spec.max_batch_size for spec in map(tasks.get, tasks.names()))
        cost = max(spec.max_batch_cost for spec in map(tasks.get, tasks.names()))
        size = settings.MAX_BATCH_SIZE or most
        jobs = claims.claim(
            queues=self.queues, worker=self.heartbeat.row.name, limit=limit or size, max_cost=cost * 4, key=key
        )
        self.heartbeat.tokens.update(job.lease_token for job in jobs if job.lease_token)
        return jobs

    def _run(self, jobs: list[Job]) -> None:
        """Run one claim, and what joins it while it runs, to the end."""
        held = {job.lease_token for job in jobs}
        self.heartbeat.begin_step()
        try:
            predictor = self.predictor(jobs[0].version)
        except BundleError as error:
            registry.mark_faulty(jobs[0].version, str(error))
            message = f"The model {jobs[0].version} is unavailable. Ask the operator to repair it, then run this again."
            for job in jobs:
                self._fail(job, message)
        else:
            self._work(predictor, jobs)
        finally:
            self.heartbeat.end_step()
            self.heartbeat.tokens -= {token for token in held if token}
            self.heartbeat.row.rows = 0

    def _work(self, predictor: Predictor, jobs: list[Job]) -> None:
        engine: Engine[Job] = predictor.engine(settings.MAX_BATCH_SIZE)
        limit = time.monotonic() + predictor.task.max_run_s
        checked = time.monotonic()
        waiting = list(jobs)
        events.publish_many([(job.pk, "state", {"status": Status.RUNNING}, job.attempts) for job in jobs])
        while waiting or engine.rows:
            while waiting and engine.free_slots > 0:
                self._add(predictor, engine, waiting.pop(0))
            self.heartbeat.row.rows = len(engine.rows)
            self.heartbeat.begin_step()
            started, rows = time.monotonic(), len(engine.rows)
            found = engine.step()
            self._store(found, seconds=time.monotonic() - started, rows=rows)
            if engine.rows and time.monotonic() - checked > CANCEL_CHECK_S:
                self._drop_cancelled(engine)
                checked = time.monotonic()
            if time.monotonic() > limit:
                for job in [*engine.rows, *waiting]:
                    engine.abort(job)
                    self._fail(job, f"This took longer than {predictor.task.max_run_s:g} s and was stopped.")
                waiting.clear()
            if self.stopping and (engine.rows or waiting):
                claims.give_back({job.lease_token for job in [*engine.rows, *waiting] if job.lease_token})
                return

    def _add(self, predictor: Predictor, engine: Engine[Job], job: Job) -> None:
        try:
            with files.located(predictor.task, job.content.inputs) as inputs:
                item = predictor.task.preprocess(inputs, job.content.options, predictor.assets)
        except InvalidInput as error:
            self._fail(job, error.message, field=error.field)
        except Exception:
            logger.exception("job %s failed in preprocessing", job.pk)
            self._fail(job, services.NEUTRAL)
        else:
            engine.add(job, item)

    def _store(self, found: list[tuple[Job, Any]], *, seconds: float, rows: int) -> None:
        answers = [(job, event.output) for job, event in found if isinstance(event, Final)]
        kept = services.succeed(answers, model_time_s=seconds, rows=rows)
        self.heartbeat.row.jobs_done += len(kept)
        done: list[events.Entry] = [(job.pk, "done", {"status": Status.SUCCEEDED}, job.attempts) for job in kept]
        for job, event in found:
            if isinstance(event, Failed):
                self._fail_with(job, event.error)
            elif isinstance(event, Partial):
                done.append((job.pk, "delta", event.output, job.attempts))
        self.heartbeat.row.batches_done += 1
        events.publish_many(done)

    def _fail_with(self, job: Job, error: Exception) -> None:
        if isinstance(error, InvalidInput):
            self._fail(job, error.message, field=error.field)
        else:
            logger.error("job %s failed", job.pk, exc_info=error)
            self._fail(job, services.NEUTRAL)

    def _fail(self, job: Job, message: str, *, field: str = "") -> None:
        if services.fail(job, message, field=field):
            events.publish(job.pk, "done", {"status": Status.FAILED}, attempt=job.attempts)

    def _drop_cancelled(self, engine: Engine[Job]) -> None:
        rows = list(engine.rows)
        alive = set(
            Job.objects.filter(pk__in=[job.pk for job in rows], status=Status.RUNNING).values_list("pk", flat=True)
        )
        for job in rows:
            if job.pk not in alive:
                engine.abort(job)

    def predictor(self, version: ModelVersion) -> Predictor:
        """The loaded predictor of a version; loaded and self-tested on first use, BundleError when it cannot be."""
        if version.pk in self.predictors:
            self.predictors.move_to_end(version.pk)
            return self.predictors[version.pk]
        self.heartbeat.row.loading = str(version)
        self.heartbeat.write()
        started = time.monotonic()
        try:
            predictor = Predictor(Bundle.open(registry.bundle_path(version)), self.device)
            self_test(predictor)
        finally:
            self.heartbeat.row.loading = ""
        logger.info("%s loaded in %.1f s on %s", version, time.monotonic() - started, predictor.device)
        self.predictors[version.pk] = predictor
        while len(self.predictors) > MAX_LOADED:
            self.predictors.popitem(last=False)
        self.heartbeat.row.loaded = [p.bundle.label for p in self.predictors.values()]
        self.heartbeat.write()
        return predictor

    def preload(self) -> None:
        """Load the active versions of the tasks that this worker's queues serve."""
        mine = {name for name in tasks.names() if tasks.get(name).queue in self.queues}
        for version in ModelVersion.objects.filter(task__in=mine, status=ModelVersion.Status.ACTIVE):
            try:
                self.predictor(version)
            except BundleError as error:
                registry.mark_faulty(version, str(error))
            else:
                if version.fault:
                    registry.clear_fault(version)


_server: Server | None = None


def server() -> Server:
    """This process's server; made on first use."""
    global _server
    if _server is None:
        queues = os.environ.get("WORKER_QUEUES", "fast").split(",")
        _server = Server(queues, device=settings.DEVICE)
    return _server


@shared_task(name="jobs.serve")
def serve(queue: str) -> None:
    """Work on what is queued; a wake-up for a queue that another worker emptied costs one query."""
    if server().serve():
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
    set_threads(settings.WORKER_THREADS)
    upkeep.sweep()
    server().heartbeat.write()
    server().heartbeat.start()
    server().preload()
    for queue in server().queues:
        services.wake(queue)


@worker_shutting_down.connect
def _stop_claiming(**_: Any) -> None:
    server().stopping = True


@worker_shutdown.connect
def _leave(**_: Any) -> None:
    server().heartbeat.stop()
