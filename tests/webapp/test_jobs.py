"""Jobs: submitted, claimed, answered once, whatever happens to their worker."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.sessions.models import Session
from django.db import DatabaseError, OperationalError
from django.utils import timezone

from mlcore.errors import NEUTRAL, InvalidInput
from mlcore.task import Product
from webapp.jobs import answers, claims, heartbeat, queries, services, submission, upkeep
from webapp.jobs.models import Batch, File, Job, Operation, Status, Worker
from webapp.jobs.owners import Owner
from webapp.jobs.server import Server
from webapp.registry import services as registry

from .conftest import TASK, inputs, reload

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("version")]
ANNA, BEN = Owner(session="a" * 32), Owner(session="b" * 32)


def submit(text: str = "A good film.", owner: Owner = ANNA) -> Job:
    return submission.submit(submission.check(TASK, inputs(text), owner=owner), owner=owner)


def claim(limit: int = 64, worker: str = "w") -> list[Job]:
    return claims.claim(queues=["fast"], worker=worker, room=lambda job: limit, max_cost=100_000)


def test_a_job_is_answered(run_jobs: Callable[[], None]) -> None:
    job = submit()
    run_jobs()
    job = reload(job)
    assert job.status == Status.SUCCEEDED
    assert job.content.output["label"] in ("negative", "neutral", "positive")
    assert job.answer and job.model_time_s is not None and job.batch_rows == 1
    assert job.lease_token is None


def test_like_jobs_are_batched_and_unlike_lengths_are_not(run_jobs: Callable[[], None]) -> None:
    short = [submit(f"text {i}") for i in range(10)]
    long = submit("word " * 2_000)
    run_jobs()
    assert {reload(job).batch_rows for job in short} == {10}
    assert reload(long).batch_rows == 1


def test_a_job_is_claimed_once() -> None:
    jobs = [submit() for _ in range(5)]
    first, second = claim(limit=3), claim(limit=3)
    assert [job.pk for job in first + second] == [job.pk for job in jobs]
    assert claim() == []


def test_a_stale_worker_cannot_write() -> None:
    submit()
    (stale,) = claim()
    Job.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert upkeep.sweep() == 1
    (fresh,) = claim()
    assert answers.succeed([answers.Answer(stale, {"label": "neutral", "score": 1.0}, 1, 1)]) == ([], [])
    assert services.fail(fresh, "no")
    assert reload(fresh).status == Status.FAILED


def test_second_attempts_come_in_small_company_and_last_ones_alone() -> None:
    jobs = [submit() for _ in range(6)]
    claim()
    for expected in ([4, 2], [1] * 6):
        Job.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        upkeep.sweep()
        fresh = submit()
        assert [len(claim()) for _ in expected] == expected
        assert [job.pk for job in claim()] == [fresh.pk], "a new one joins none of them"
        fresh.delete()
    assert {reload(job).attempts for job in jobs} == {3}


def test_what_runs_is_let_run_out_for_a_retry_but_not_for_ever(server: Server) -> None:
    assert server._has_room(1), "no retry waits"
    job = submit()
    Job.objects.filter(pk=job.pk).update(attempts=1)
    assert [server._has_room(over) for over in (-1, 0, 29, 31, 36, 66)] == [True, False, False, True, False, True]
    server.paused = {job.queue}
    assert server._has_room(1), "one in a paused queue would never be taken"


def test_after_three_attempts_a_job_fails_in_words() -> None:
    job = submit()
    for _ in range(3):
        assert claim()
        Job.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        upkeep.sweep()
    job = reload(job)
    assert job.status == Status.FAILED
    assert "3 times" in job.content.error_message


def test_a_dead_worker_of_this_host_need_not_be_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    submit()
    Worker.objects.create(name="w", host=socket.gethostname(), pid=2**22 + 7, queues=["fast"])
    claim(worker="w")
    assert upkeep.sweep() == 0, "it is heard: perhaps another machine has this name"
    Worker.objects.update(seen_at=timezone.now() - timedelta(seconds=6))
    assert upkeep.sweep() == 1


def test_jobs_given_back_count_no_attempt() -> None:
    submit()
    (job,) = claim()
    assert job.lease_token
    claims.give_back([job.lease_token])
    job = reload(job)
    assert (job.status, job.attempts) == (Status.QUEUED, 0)


def test_a_cancelled_job_stays_cancelled(run_jobs: Callable[[], None]) -> None:
    waiting, running = submit(), submit()
    assert services.cancel(waiting)
    (held,) = claim()
    assert held.pk == running.pk
    assert services.cancel(running)
    assert answers.succeed([answers.Answer(held, {"label": "neutral", "score": 1.0}, 1, 1)]) == ([], [])
    run_jobs()
    assert {reload(job).status for job in (waiting, running)} == {Status.CANCELLED}
    assert not services.cancel(waiting)


def test_one_poisonous_input_burns_no_neighbour(server: Server, run_jobs: Callable[[], None]) -> None:
    jobs = [submit("poison" if i == 3 else f"text {i}") for i in range(8)]
    predictor = server.loaded.get(jobs[0].version)
    whole = predictor.forward

    def forward(items: Any) -> Any:
        if any(item.context.text == "poison" for item in items):
            raise RuntimeError("boom")
        return whole(items)

    predictor.forward = forward  # type: ignore[method-assign]
    run_jobs()
    found = [reload(job) for job in jobs]
    assert [job.status == Status.SUCCEEDED for job in found] == [i != 3 for i in range(8)]
    assert found[3].content.error_message == NEUTRAL


def test_a_damaged_bundle_is_refused_by_name_and_healed_by_a_new_install(
    version: Any, server: Server, run_jobs: Callable[[], None], tiny_bundle: Any
) -> None:
    path = registry.bundle_path(version) / "weights.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    job = submit()
    run_jobs()
    assert "sentiment-analysis/en@1 is unavailable" in reload(job).content.error_message
    with pytest.raises(registry.ModelUnavailable, match="unavailable"):
        submit()
    registry.install(tiny_bundle.path)
    again = submit()
    run_jobs()
    assert reload(again).status == Status.SUCCEEDED


def test_interactive_jobs_come_before_bulk_ones_and_bulk_ones_in_turns() -> None:
    submission.submit_batch(TASK, [{"inputs": inputs(f"a{i}")} for i in range(4)], owner=ANNA)
    submission.submit_batch(TASK, [{"inputs": inputs(f"b{i}")} for i in range(2)], owner=BEN)
    submit("now")
    order = [claim(limit=1)[0].summary for _ in range(7)]
    assert order == ["now", "a0", "b0", "a1", "b1", "a2", "a3"]


def test_a_bad_item_is_told_at_its_place(run_jobs: Callable[[], None]) -> None:
    batch, results = submission.submit_batch(TASK, [{"inputs": inputs()}, {"inputs": {}}, 3], owner=ANNA)
    assert [isinstance(result, InvalidInput) for result in results] == [False, True, True]
    run_jobs()
    assert queries.batch_progress(batch) == {
        "counts": {"queued": 0, "running": 0, "succeeded": 1, "failed": 2, "cancelled": 0},
        "done": 3,
        "total": 3,
    }


def test_the_heartbeat_renews_what_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    beat = heartbeat.Heartbeat(["fast"])
    beat.tokens = {uuid4()}
    renewed: list[set[UUID]] = []
    turns = iter([False, False, True])
    monkeypatch.setattr(beat.stopping, "wait", lambda seconds: next(turns))
    monkeypatch.setattr(beat, "write", lambda: None)
    monkeypatch.setattr(heartbeat, "connection", SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(claims, "renew", lambda tokens: renewed.append(set(tokens)))
    beat.run()
    assert renewed == [beat.tokens]


def test_a_worker_is_woken_once_a_job_is_stored(
    monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    woken: list[str] = []
    monkeypatch.setattr(services, "wake", woken.append)
    with django_capture_on_commit_callbacks(execute=True):
        submit()
        submission.submit_batch(TASK, [{"inputs": inputs()}], owner=ANNA)
        assert not woken
    assert woken == ["fast", "fast"]


def test_a_full_queue_says_when_to_come_back(settings: Any) -> None:
    settings.MAX_QUEUED_PER_OWNER = 2
    submit(), submit()
    with pytest.raises(submission.QueueFull) as error:
        submit()
    assert error.value.retry_after_s >= 1
    submit(owner=BEN)
    settings.MAX_QUEUED = 3
    with pytest.raises(submission.QueueFull, match="3 jobs are waiting"):
        submit(owner=BEN)
    settings.MAX_QUEUED, settings.MAX_QUEUED_PER_OWNER = 5_000, 5
    with pytest.raises(submission.QueueFull, match="at most 5"):
        submission.submit_batch(TASK, [{"inputs": inputs()}] * 6, owner=BEN)
    assert not Batch.objects.exists()


def test_why_a_job_waits_is_said() -> None:
    first, second = submit(), submit()
    assert (found := queries.waiting(second)) and found.reason == "no-worker"
    worker = Worker.objects.create(name="w", host="h", pid=1, queues=["fast"], loading=str(first.version))
    assert (found := queries.waiting(second)) and found.sentence == "The model is loading."
    Worker.objects.filter(pk=worker.pk).update(loading="")
    assert (found := queries.waiting(second)) and found.position == 2
    assert found.sentence.startswith("2nd in the queue, about ")


def test_what_is_old_is_deleted(settings: Any, run_jobs: Callable[[], None]) -> None:
    old, new = submit(), submit()
    submission.submit_batch(TASK, [{"inputs": inputs()}], owner=ANNA)
    past = timezone.now() - timedelta(days=settings.RETENTION_DAYS + 1)
    Job.objects.exclude(pk=new.pk).update(created_at=past)
    Batch.objects.update(created_at=past)
    assert upkeep.delete_old() == 2
    assert list(Job.objects.values_list("pk", flat=True)) == [new.pk]
    assert not Batch.objects.exists()
    assert old.pk


def test_what_quotes_old_answers_goes_with_them(settings: Any) -> None:
    past = timezone.now() - timedelta(days=settings.RETENTION_DAYS + 1)
    done, recent = (
        Operation.objects.create(kind=Operation.Kind.CHECK, label=label, queue="slow") for label in ("old", "new")
    )
    Operation.objects.filter(pk=done.pk).update(finished_at=past, status=Status.SUCCEEDED)
    Session.objects.create(session_key="k", session_data="", expire_date=past)
    upkeep.delete_old()
    assert list(Operation.objects.values_list("pk", flat=True)) == [recent.pk]
    assert not Session.objects.exists()


def test_a_job_that_is_too_slow_is_ended(server: Server, run_jobs: Callable[[], None], monkeypatch: Any) -> None:
    job = submit()
    predictor = server.loaded.get(job.version)
    monkeypatch.setattr(type(predictor.task), "max_run_s", -1.0)

    class Endless:
        rows: dict[Any, Any] = {}
        free_slots = 1

        def add(self, key: Any, item: Any) -> None:
            self.rows[key] = item

        def step(self) -> list[Any]:
            return []

        def snapshot(self, key: Any) -> None:
            return None

        def abort(self, key: Any) -> None:
            self.rows.pop(key, None)

    predictor.engine = lambda slots=0: Endless()  # type: ignore[method-assign, assignment, return-value]
    run_jobs()
    assert "took longer" in reload(job).content.error_message


def test_an_error_in_the_database_strands_no_job(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    job = submit()

    def broken(*_: Any, **__: Any) -> Any:
        raise DatabaseError("gone")

    monkeypatch.setattr(answers, "succeed", broken)
    with pytest.raises(DatabaseError):
        server.serve()
    assert reload(job).status == Status.QUEUED
    assert reload(job).attempts == 1, "the attempt counts: this may have been the job's fault"
    assert not server.running and not server.heartbeat.tokens
    monkeypatch.undo()
    while server.serve():
        pass
    assert reload(job).status == Status.SUCCEEDED


def test_a_batch_of_which_a_job_was_erased_still_ends(run_jobs: Callable[[], None]) -> None:
    batch, jobs = submission.submit_batch(TASK, [{"inputs": inputs(f"Text {i}.")} for i in range(3)], owner=ANNA)
    services.erase(jobs[0])
    run_jobs()
    batch.refresh_from_db()
    progress = queries.batch_progress(batch)
    assert (progress["done"], progress["total"]) == (2, 2)


def test_a_job_is_erased_once_however_often_it_is_asked_for() -> None:
    batch, jobs = submission.submit_batch(TASK, [{"inputs": inputs()}], owner=ANNA)
    (job,) = jobs
    assert isinstance(job, Job)
    again = Job.objects.get(pk=job.pk)
    services.erase(job)
    services.erase(again)
    batch.refresh_from_db()
    assert batch.total == 0


def test_a_job_that_is_run_again_is_as_new(run_jobs: Callable[[], None]) -> None:
    job = submit()
    run_jobs()
    product = File.objects.create(kind="output", sha256="", size=1, key="products/none", media="document")
    job.files.add(product)
    Job.objects.filter(pk=job.pk).update(progress_done=1_180, progress_total=1_200, progress_unit="sentences")
    assert services.requeue(reload(job))
    again, new = reload(job), Job()
    for name in (
        "attempts",
        "worker",
        "model_time_s",
        "batch_rows",
        *(f"progress_{n}" for n in ("done", "total", "unit")),
    ):
        assert getattr(again, name) == getattr(new, name), name
    assert not services.requeue(reload(job)), "it is under way"
    assert reload(job).content.output is None
    assert not File.objects.filter(pk=product.pk).exists()
    run_jobs()
    assert reload(job).status == Status.SUCCEEDED


@pytest.mark.parametrize(("error", "lost"), [(OperationalError("database is locked"), None), (OSError("full"), 1)])
def test_a_locked_database_costs_no_document(
    error: Exception, lost: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit()
    (job,) = claim()
    output = {"label": "positive", "score": 0.9, "document": Product("a.txt", b"x")}
    answer = answers.Answer(job, output, 0.1, 1)
    made: list[str] = []

    def fail(output: Any, *, job: Job, made: list[str]) -> Any:
        made.append("products/half")
        raise error

    monkeypatch.setattr(answers.products, "keep", fail)
    monkeypatch.setattr(answers.products, "discard", made.extend)
    if lost is None:
        with pytest.raises(OperationalError):
            answers.succeed([answer])
    else:
        assert answers.succeed([answer]) == ([], [job])
    assert made == ["products/half"]
    assert reload(job).status == Status.RUNNING
