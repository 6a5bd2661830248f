"""What a worker process does: claim jobs, run them in batches, store answers. One of the three doors to torch."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.db import DatabaseError

from mlcore import task as tasks
from mlcore.engine import Failed, Final, Partial
from mlcore.errors import NEUTRAL, BundleError, InvalidInput
from webapp.jobs import answers, claims, events, files, halves, journal, operate, operations, services
from webapp.jobs.caretaker import Caretaker
from webapp.jobs.heartbeat import Heartbeat
from webapp.jobs.loaded import Loaded
from webapp.jobs.models import Job, Status
from webapp.jobs.running import Held, Running
from webapp.jobs.stats import Stats
from webapp.registry import services as registry
from webapp.registry.models import ModelVersion

logger = logging.getLogger(__name__)
SHIFT_S = 5.0  # a worker function runs about so long, then wakes itself, so that Celery stays responsive
DRAIN_S = 30.0  # so long what runs may run out for a job that must be alone; then others join again for a shift
CANCEL_CHECK_S = 0.2


def _slots(name: str) -> int:
    """Rows of a task that share a forward pass, as the operator or the task has it."""
    return registry.setting(name).max_batch_size or settings.MAX_BATCH_SIZE or tasks.get(name).max_batch_size


class Server:
    """What one worker process keeps: loaded predictors, what they work on, and its heartbeat."""

    def __init__(self, queues: Sequence[str], *, device: str = "auto") -> None:
        self.queues = list(queues)
        self.running: dict[int, Running] = {}
        self.stats = Stats()
        self.heartbeat = Heartbeat(self.queues, device=device, stats=self.stats)
        self.loaded = Loaded(self.heartbeat, device=device)
        self.caretaker = Caretaker(self)
        self.paused: set[str] = set()  # kept by the caretaker
        self.stopping = False

    def serve(self) -> bool:
        """Work for one shift, and until what it began is done; True when there may be more.

        Whatever is queued meanwhile joins between steps, so a long text delays no short one.
        """
        try:
            return self._shift()
        except Exception:
            # the database went away, the disk is full: nothing may stay held by a worker that does not work on it
            logger.exception("a shift ended in an error")
            self.heartbeat.note_error("a shift ended in an error")
            self.heartbeat.end_step()
            self._let_go()
            raise

    def _shift(self) -> bool:
        end = time.monotonic() + SHIFT_S
        while not self.stopping and (self.running or time.monotonic() < end):
            if self._has_room(time.monotonic() - end) and (jobs := self._claim()):
                self._admit(jobs)
            elif not self.running:
                return self._operate()
            for running in list(self.running.values()):
                self._step(running)
            self._forget_finished()
        self._give_back()
        return not self.stopping

    def _let_go(self) -> None:
        """Return what is held, the attempt counted; leases that cannot be returned run out by themselves."""
        tokens = set(self.heartbeat.tokens)
        self.running.clear()
        self.heartbeat.tokens = set()
        self.heartbeat.row.rows = 0
        try:
            claims.release(tokens)
        except DatabaseError:
            logger.warning("the database does not answer: leases of this worker will run out")

    def _operate(self) -> bool:
        """Work on an operation where one is queued, to its end; True when there was one."""
        operation = operations.claim(queues=self.open_queues, worker=self.heartbeat.row.name)
        if operation is None:
            return False
        operate.to_its_end(operation, self.loaded, self.heartbeat, is_stopping=lambda: self.stopping)
        return True

    @property
    def open_queues(self) -> list[str]:
        """Those of its queues that are not paused."""
        return [queue for queue in self.queues if queue not in self.paused]

    def _has_room(self, over_s: float) -> bool:
        """Whether more may join. None joins jobs on a second attempt, which may have ended a worker; where one waits,
        and the shift is over by `over_s`, what runs is let run out first, for a while: a long job runs for hours."""
        jobs = [job for running in self.running.values() for job in running.jobs]
        if any(job.attempts > 1 for job in jobs):
            return False
        is_draining = over_s >= 0 and over_s % (DRAIN_S + SHIFT_S) < DRAIN_S
        return not is_draining or not claims.has_retry(self.open_queues)

    def _claim(self) -> list[Job]:
        jobs = claims.claim(
            queues=self.open_queues,
            worker=self.heartbeat.row.name,
            room=self._room,
            max_cost=4 * max(tasks.get(name).max_batch_cost for name in tasks.names()),
            fresh=bool(self.running),
            full=[pk for pk, running in self.running.items() if running.room <= 0],
        )
        self.heartbeat.tokens.update(job.lease_token for job in jobs if job.lease_token)
        return jobs

    def _room(self, job: Job) -> int:
        """How many jobs like this one can be worked on at once: what does not fit is left to other workers."""
        running = self.running.get(job.version_id)
        return running.room if running else _slots(job.task)

    def _admit(self, jobs: list[Job]) -> None:
        """Take claimed jobs, all of one version, to their engine."""
        version = jobs[0].version
        self.heartbeat.begin_step()
        try:
            predictor = self.loaded.get(version)
        except BundleError as error:
            registry.mark_faulty(version, str(error))
            message = f"The model {version} is unavailable. Ask the operator to repair it, then run this again."
            for job in jobs:
                self._fail(job, message)
            return
        finally:
            self.heartbeat.end_step()
        if version.pk not in self.running:
            self.running[version.pk] = Running(predictor, predictor.engine(_slots(version.task)))
        running = self.running[version.pk]
        running.waiting += jobs
        running.held |= {job.pk: Held(time.monotonic()) for job in jobs}
        events.publish_many([(job.pk, "state", {"status": Status.RUNNING}, job.attempts) for job in jobs])

    def _step(self, running: Running) -> None:
        """One step of one version's engine."""
        engine = running.engine
        while running.waiting and engine.free_slots > 0:
            self._add(running, running.waiting.pop(0))
        self._drop_cancelled(running)
        rows = list(engine.rows)
        self.heartbeat.row.rows = len(rows)
        self.heartbeat.begin_step()
        started = time.monotonic()
        found = engine.step()
        spent = time.monotonic() - started
        self.heartbeat.end_step()
        for job in rows:
            held = running.held[job.pk]
            held.model_time_s += spent
            held.rows = max(held.rows, len(rows))
        if rows:
            self.stats.batch(running.predictor.bundle.task, len(rows))
        self._store(running, found)
        for job in list(engine.rows):
            limit = running.predictor.task.run_limit_s(job.content.inputs)
            if time.monotonic() - running.held[job.pk].since > limit:
                self._end_early(running, job, f"This took longer than {limit:g} s and was stopped.")

    def _end_early(self, running: Running, job: Job, message: str) -> None:
        """End a job at its limit: where half an answer is worth keeping that is its answer, with a notice."""
        try:
            half = running.engine.snapshot(job)
        except Exception:
            logger.exception("job %s has no half answer", job.pk)
            half = None
        running.engine.abort(job)
        if half and half.get("tokens"):
            self._store(running, [(job, Final({**half, "notice": f"{half['notice']} {message}".strip()}))])
        else:
            self._fail(job, message)

    def _forget_finished(self) -> None:
        """Let go of versions without work, and of leases without jobs."""
        self.running = {pk: running for pk, running in self.running.items() if running.jobs}
        for running in self.running.values():
            alive = {job.pk for job in running.jobs}
            running.held = {pk: held for pk, held in running.held.items() if pk in alive}
        self.heartbeat.tokens &= {job.lease_token for r in self.running.values() for job in r.jobs if job.lease_token}
        if not self.running:
            self.heartbeat.row.rows = 0

    def _give_back(self) -> None:
        """A worker told to stop returns what it holds, the attempt not counted."""
        claims.give_back({job.lease_token for r in self.running.values() for job in r.jobs if job.lease_token})
        self.running.clear()

    def _add(self, running: Running, job: Job) -> None:
        task, assets = running.predictor.task, running.predictor.assets
        self.heartbeat.begin_step()
        try:
            with files.located(task, job.content.inputs) as inputs:
                item = task.preprocess(inputs, job.content.options, assets)
                if job.content.partial:
                    item = task.resume(item, job.content.partial, assets)
                    known = dict(job.content.partial.get("parts", {}))
                    running.held[job.pk].parts = known
                    events.publish_many([(job.pk, "rewind", {"index": int(n)}, job.attempts) for n in known])
        except InvalidInput as error:
            self._fail(job, error.message, field=error.field)
        except Exception:
            logger.exception("job %s failed in preprocessing", job.pk)
            self.heartbeat.note_error(f"{job.task}: a job failed in preprocessing")
            self._fail(job, NEUTRAL)
        else:
            running.engine.add(job, item)
        finally:
            self.heartbeat.end_step()

    def _store(self, running: Running, found: list[tuple[Job, Any]]) -> None:
        told: list[events.Entry] = []
        for job, event in found:
            if isinstance(event, Partial):
                told += answers.keep_partial(job, event, running.held[job.pk])
            elif isinstance(event, Failed):
                self._fail_with(job, event.error)
        final = [
            answers.Answer(job, event.output, running.held[job.pk].model_time_s, running.held[job.pk].rows)
            for job, event in found
            if isinstance(event, Final)
        ]
        kept, lost = answers.succeed(final)
        self.heartbeat.row.jobs_done += len(kept)
        self.heartbeat.row.batches_done += 1
        told += [(job.pk, "done", {"status": Status.SUCCEEDED}, job.attempts) for job in kept]
        for job in kept:
            self._count(job, Status.SUCCEEDED, running.held[job.pk])
        events.publish_many(told)
        for job in lost:
            self._fail(job, NEUTRAL)
        if running.predictor.task.streams:
            for answer in final:
                if answer.job not in kept and answer.job not in lost:  # stopped while its last token was made
                    halves.keep(answer.job, answer.output)

    def _fail_with(self, job: Job, error: Exception) -> None:
        if isinstance(error, InvalidInput):
            self._fail(job, error.message, field=error.field)
        else:
            logger.error("job %s failed", job.pk, exc_info=error)
            self.heartbeat.note_error(f"{job.task}: {type(error).__name__}")
            self._fail(job, NEUTRAL)

    def _fail(self, job: Job, message: str, *, field: str = "") -> None:
        if services.fail(job, message, field=field):
            events.publish(job.pk, "done", {"status": Status.FAILED}, attempt=job.attempts)
            self._count(job, Status.FAILED, None)

    def _count(self, job: Job, outcome: Status, held: Held | None) -> None:
        """Into the worker's numbers and the journal; nothing of what people sent."""
        wait_s, run_s = journal.durations(job)
        self.stats.job(job.task, outcome, wait_s=wait_s, run_s=run_s)
        worked = {"model_time_s": round(held.model_time_s, 3), "rows": held.rows} if held else {}
        journal.note(job, outcome, **worked)

    @staticmethod
    def _drop_cancelled(running: Running) -> None:
        """Take out rows whose jobs were cancelled or erased; only those that have been there for a while."""
        rows = [job for job in running.engine.rows if time.monotonic() - running.held[job.pk].since > CANCEL_CHECK_S]
        if not rows:
            return
        alive = set(
            Job.objects.filter(pk__in=[job.pk for job in rows], status=Status.RUNNING).values_list("pk", flat=True)
        )
        for job in rows:
            if job.pk not in alive:
                if output := running.engine.snapshot(job):
                    halves.keep(job, output)
                running.engine.abort(job)

    def preload(self) -> None:
        """Load the active versions of the tasks that this worker's queues serve."""
        mine = {name for name in tasks.names() if registry.queue_of(name) in self.queues}
        for version in ModelVersion.objects.filter(task__in=mine, status=ModelVersion.Status.ACTIVE):
            try:
                self.loaded.get(version)
            except BundleError as error:
                registry.mark_faulty(version, str(error))
            else:
                if version.fault:
                    registry.clear_fault(version)
