"""Texts that are written while they are watched: partials, stopping, taking up again, events."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import Client
from django.utils import timezone

from mlcore.bundle import Bundle
from webapp.api import streams
from webapp.jobs import halves, services, upkeep
from webapp.jobs.models import Job, Status
from webapp.jobs.server import Server
from webapp.registry import services as registry
from webapp.registry.models import TaskSetting

TASK = "text-generation"
FORM = {"prompt": "The fog", "option-seed": "7", "option-max_new_tokens": "40"}


@pytest.fixture
def work(db: None, tiny_bundles: dict[str, Bundle], monkeypatch: pytest.MonkeyPatch) -> Server:
    """A worker that tells of every token and stores each at once."""
    registry.activate(registry.install(tiny_bundles[TASK].path, shipped=True))
    monkeypatch.setattr("mlcore.generation.STEP_S", 0.0)
    monkeypatch.setattr("webapp.jobs.answers.KEEP_PARTIAL_S", 0.0)
    monkeypatch.setattr("webapp.jobs.server.CANCEL_CHECK_S", 0.0)
    return Server(["fast"], device="cpu")


def submit(client: Client, **changes: str) -> Job:
    answer = client.post(f"/tasks/{TASK}/run", {**FORM, **changes})
    assert answer.status_code == 302, answer.content.decode()
    return Job.objects.select_related("content").get(pk=answer["Location"].split("/")[2])


def reread(job: Job) -> Job:
    return Job.objects.select_related("content", "version").get(pk=job.pk)


def steps(server: Server, number: int) -> None:
    if not server.running:
        server._admit(server._claim())
    for _ in range(number):
        for running in server.running.values():
            server._step(running)


def heard(answer: Any) -> str:
    """The whole of a stream of events."""

    async def all_of_it() -> bytes:
        return b"".join([part async for part in answer.streaming_content])

    return async_to_sync(all_of_it)().decode()


def finish(server: Server) -> None:
    while server.serve():
        pass


def test_a_text_is_written_and_shown(client: Client, work: Server) -> None:
    job = submit(client)
    finish(work)
    output = reread(job).content.output
    assert output["seed"] == 7
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    assert "data-tokens=" in page
    assert "40 tokens, ended: as long as asked" in page
    assert "Seed 7" in page
    assert client.get(f"/jobs/{job.pk}/download").content.decode() == output["generated_text"]


def test_what_is_written_is_seen_before_the_end(client: Client, work: Server) -> None:
    job = submit(client)
    steps(work, 12)
    work._forget_finished()
    assert work.heartbeat.tokens == {reread(job).lease_token}, "what goes on is still held"
    stored = reread(job)
    assert (stored.progress_done, stored.progress_total, stored.progress_unit) == (12, 40, "tokens")
    written = "".join(token["text"] for token in stored.content.partial["parts"]["0"]["tokens"])
    panel = client.get(f"/jobs/{job.pk}/panel").content.decode()
    assert "data-streams" in panel
    assert 'data-known="12"' in panel
    assert "Stop" in panel
    finish(work)
    assert reread(job).content.output["generated_text"].startswith(written)


def test_stopping_keeps_what_was_written(client: Client, work: Server) -> None:
    job = submit(client)
    steps(work, 10)
    panel = client.post(f"/jobs/{job.pk}/cancel", headers={"HX-Request": "true"}).content.decode()
    assert 'hx-trigger="load delay:300ms"' in panel
    finish(work)
    stopped = reread(job)
    assert stopped.status == Status.CANCELLED
    assert stopped.content.output["finish_reason"] == "cancelled"
    assert len(stopped.content.output["tokens"]) == 10
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    assert "What was written is kept" in page


def test_a_text_that_is_stopped_while_its_last_token_is_made_is_kept(client: Client, work: Server) -> None:
    job = submit(client)
    steps(work, 39)
    (running,) = work.running.values()
    found = running.engine.step()
    assert services.cancel(reread(job))
    work._store(running, found)
    stopped = reread(job)
    assert stopped.status == Status.CANCELLED
    assert len(stopped.content.output["tokens"]) == 40


def test_a_text_that_takes_too_long_is_kept_as_far_as_it_came(
    client: Client, work: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(client)
    steps(work, 9)
    (running,) = work.running.values()
    monkeypatch.setattr(type(running.predictor.task), "max_run_s", -1.0)
    steps(work, 1)
    ended = reread(job)
    assert ended.status == Status.SUCCEEDED
    assert (ended.content.output["finish_reason"], len(ended.content.output["tokens"])) == ("cancelled", 10)
    assert "took longer than -1 s" in ended.content.output["notice"]
    assert "10 tokens, ended: stopped" in client.get(f"/jobs/{job.pk}/").content.decode()


@pytest.mark.parametrize("dies", ["before", "after"])
def test_what_a_dead_worker_stored_is_kept_when_its_text_is_stopped(client: Client, work: Server, dies: str) -> None:
    job = submit(client)
    steps(work, 6)
    work.running.clear()  # killed
    if dies == "before":
        Job.objects.filter(pk=job.pk).update(status=Status.QUEUED, lease_token=None, lease_until=None)
    assert services.cancel(reread(job))
    if dies == "after":
        assert reread(job).content.output is None
        assert halves.keep_forgotten() == 0, "a worker may still bring it"
        Job.objects.filter(pk=job.pk).update(finished_at=timezone.now() - timedelta(seconds=9))
        upkeep.sweep()
    output = reread(job).content.output
    assert (len(output["tokens"]), output["finish_reason"], output["seed"]) == (6, "cancelled", 7)
    assert output["generated_text"] == "".join(token["text"] for token in output["tokens"])
    assert "What was written is kept" in client.get(f"/jobs/{job.pk}/").content.decode()


def test_what_does_not_fit_is_left_to_others(client: Client, work: Server, tiny_bundles: dict[str, Bundle]) -> None:
    registry.activate(registry.install(tiny_bundles["sentiment-analysis"].path, shipped=True))
    TaskSetting.objects.update_or_create(task=TASK, defaults={"max_batch_size": 2})
    for seed in range(3):
        submit(client, **{"option-seed": str(seed)})
    steps(work, 1)
    assert Job.objects.filter(status=Status.RUNNING).count() == 2
    sent = client.post("/tasks/sentiment-analysis/run", {"text": "Good."})
    assert [job.task for job in work._claim()] == ["sentiment-analysis"], sent.content


def test_a_text_is_taken_up_again_by_another_worker(client: Client, work: Server, monkeypatch: Any) -> None:
    whole = submit(client)
    finish(work)
    told: list[tuple] = []
    monkeypatch.setattr("webapp.jobs.events.publish_many", told.extend)
    job = submit(client)
    steps(work, 15)
    work.running.clear()  # killed
    Job.objects.filter(pk=job.pk).update(status=Status.QUEUED, lease_token=None, lease_until=None)
    second = Server(["fast"], device="cpu")
    finish(second)
    assert reread(job).attempts == 2
    assert reread(job).content.output == reread(whole).content.output
    again = [(event, data) for _, event, data, attempt in told if attempt == 2]
    assert [event for event, _ in again][:2] == ["state", "rewind"]
    starts = [data["part"]["start"] for event, data in again if event == "delta"]
    assert starts == list(range(15, 40)), "no token twice"


def test_a_worker_that_is_told_to_stop_hands_its_text_over(client: Client, work: Server) -> None:
    job = submit(client)
    steps(work, 5)
    work.stopping = True
    work.serve()
    assert reread(job).status == Status.QUEUED
    assert reread(job).attempts == 0
    finish(Server(["fast"], device="cpu"))
    assert len(reread(job).content.output["tokens"]) == 40


def test_sixteen_people_share_the_steps(client: Client, work: Server) -> None:
    jobs = [submit(client, **{"option-seed": str(seed)}) for seed in range(16)]
    steps(work, 1)
    assert Job.objects.filter(status=Status.RUNNING).count() == 16
    (running,) = work.running.values()
    assert len(running.engine.rows) == 16
    finish(work)
    texts = {reread(job).content.output["generated_text"] for job in jobs}
    assert len(texts) == 16
    assert {reread(job).batch_rows for job in jobs} == {16}


def test_several_continuations_stand_side_by_side(client: Client, work: Server) -> None:
    job = submit(client, **{"option-num_return_sequences": "3"})
    finish(work)
    output = reread(job).content.output
    assert len({output["generated_text"], *(other["generated_text"] for other in output["others"])}) == 3
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    assert page.count("data-continue=") == page.count("data-written") == page.count("data-strip") == 3


def test_an_empty_beginning_is_allowed_and_a_bad_option_is_not(client: Client, work: Server) -> None:
    job = submit(client, prompt="")
    finish(work)
    assert reread(job).status == Status.SUCCEEDED
    assert reread(job).summary == "A new text"
    refused = client.post(f"/tasks/{TASK}/run", {**FORM, "option-temperature": "9"})
    assert refused.status_code == 422
    assert "from 0 to 2" in refused.content.decode()


@pytest.mark.django_db(transaction=True)
def test_the_create_request_itself_may_stream(work: Server, async_client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from asgiref.sync import async_to_sync, sync_to_async

    monkeypatch.setattr(streams, "LONGEST_S", 0.0)  # who sent it does not connect again, so it goes on to the end

    body = {"task": TASK, "inputs": {"prompt": "The fog"}, "options": {"seed": 7, "max_new_tokens": 5}, "stream": True}

    async def ask() -> str:
        answer = await async_client.post("/api/v1/jobs", json.dumps(body), content_type="application/json")
        assert answer["Content-Type"] == "text/event-stream"
        text = ""
        async for chunk in answer.streaming_content:
            text += chunk.decode() if isinstance(chunk, bytes) else chunk
            if "event: job" in text and "event: state" in text and not done:
                done.append(1)
                await sync_to_async(finish, thread_sensitive=True)(work)
        return text

    done: list[int] = []
    text = async_to_sync(ask)()
    events = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert (events[0], events[-2], events[-1]) == ("job", "done", "result")
    last = json.loads(text.strip().split("data: ")[-1])
    assert last["status"] == "succeeded"
    assert last["output"]["seed"] == 7


def test_the_events_of_a_row_begin_with_what_it_holds(
    client: Client, work: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(client)
    steps(work, 6)
    services.cancel(reread(job))
    for last in ({}, {"Last-Event-ID": "1.3"}):  # also for who heard some of them, where Redis knows them no more
        text = heard(client.get(f"/api/v1/jobs/{job.pk}/events", headers=last))
        assert '"start": 0' in text
        assert text.rstrip().split("event: ")[-1].startswith("done")
    monkeypatch.setattr("webapp.jobs.events.holds", lambda job, event_id: True)
    assert "event: delta" not in heard(client.get(f"/api/v1/jobs/{job.pk}/events", headers=last))
