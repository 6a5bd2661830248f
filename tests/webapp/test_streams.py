"""What is told of jobs under way: nothing of a text is lost at its end, nor where Redis is silent or lost it."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from typing import Any
from unittest.mock import Mock

import pytest
from asgiref.sync import async_to_sync
from django.test import Client

from mlcore.bundle import Bundle
from webapp import database
from webapp.api import streams
from webapp.jobs import events
from webapp.jobs.models import Batch, Job, JobContent, Status
from webapp.registry import services as registry

TASK = "text-generation"
pytestmark = pytest.mark.django_db(transaction=True)
Heard = list[tuple[str, str, str, Any]]


class _Listener:
    """Hears what the test says, then nothing; what `wait` is to do then may be given."""

    script: list[Heard]
    is_deaf = False
    silent: Any = staticmethod(lambda: None)

    def __init__(self, jobs: list[str], *, last: str = "") -> None:
        pass

    async def __aenter__(self) -> _Listener:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def wait(self, timeout_s: float) -> Heard:
        if self.script:
            return self.script.pop(0)
        await asyncio.to_thread(self.silent)
        await asyncio.sleep(min(timeout_s, 0.01))
        return []

    async def begin_anew(self) -> None:
        pass


@pytest.fixture
def job(client: Client, tiny_bundles: dict[str, Bundle], monkeypatch: pytest.MonkeyPatch) -> Job:
    registry.activate(registry.install(tiny_bundles[TASK].path, shipped=True))
    answer = client.post(f"/tasks/{TASK}/run", {"prompt": "The fog"})
    monkeypatch.setattr(streams, "Listener", _Listener)
    monkeypatch.setattr(streams, "BEAT_S", 0.02)
    return Job.objects.get(pk=answer["Location"].split("/")[2])


def delta(job: Job, start: int) -> tuple[str, str, str, Any]:
    return (str(job.pk), f"1.{start}", "delta", {"index": 0, "part": {"start": start, "tokens": [{"text": "a"}]}})


def told(job: Job) -> list[tuple[str, Any]]:
    async def follow() -> str:
        return "".join([part async for part in streams.follow_jobs([job.pk])])

    blocks = [block.split("\n") for block in async_to_sync(follow)().split("\n\n") if "event: " in block]
    lines = [[line.partition(": ") for line in block] for block in blocks]
    return [({k: v for k, _, v in block}["event"], json.loads({k: v for k, _, v in block}["data"])) for block in lines]


def test_what_came_before_the_end_is_told_before_it(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    Job.objects.filter(pk=job.pk).update(status=Status.SUCCEEDED)
    done = (str(job.pk), "1.9", "done", {})
    monkeypatch.setattr(_Listener, "script", [[delta(job, 3), delta(job, 4)], [delta(job, 5), done]], raising=False)
    found = told(job)
    assert [name for name, _ in found] == ["delta", "delta", "delta", "done"]
    assert [data["part"]["start"] for name, data in found if name == "delta"] == [3, 4, 5]


def test_a_wait_ends_with_its_job(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Listener, "script", [[(str(job.pk), "1.1", "done", {})]], raising=False)

    async def wait() -> None:
        await asyncio.wait_for(streams.wait_for(job.pk, 300), 60)

    async_to_sync(wait)()


def test_a_stream_without_news_says_that_it_is_there(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PING_S", 0.0)
    monkeypatch.setattr(_Listener, "script", [], raising=False)

    async def two_comments() -> list[str]:
        found: list[str] = []
        async for part in streams.follow_jobs([job.pk]):
            found += [part] * part.startswith(":")
            if len(found) == 2:
                return found
        return found

    comments = async_to_sync(two_comments)()
    assert len(comments) == 2
    assert all(comment.endswith("\n\n") for comment in comments), "readers of events skip such lines"


def test_the_row_is_not_read_for_every_token(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BEAT_S", 30.0)
    looks: list[int] = []
    plain = streams._snapshot

    def look(jobs: Any) -> Any:
        looks.append(1)
        return plain(jobs)

    def end() -> None:
        Job.objects.filter(pk=job.pk).update(status=Status.SUCCEEDED)

    monkeypatch.setattr(streams, "_snapshot", look)
    script = [[delta(job, n)] for n in range(20)]
    monkeypatch.setattr(_Listener, "script", script, raising=False)
    plain_wait = _Listener.wait

    async def wait(self: _Listener, timeout_s: float) -> Heard:
        if not self.script:
            await asyncio.to_thread(end)
            return [(str(job.pk), "1.99", "done", {})] if len(looks) == 1 else []
        return await plain_wait(self, timeout_s)

    monkeypatch.setattr(_Listener, "wait", wait)
    assert [name for name, _ in told(job)] == ["state", *["delta"] * 20, "done"]
    assert len(looks) == 2


def test_where_redis_is_silent_the_text_comes_from_the_row(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    Job.objects.filter(pk=job.pk).update(status=Status.RUNNING)
    part = {"start": 0, "ids": [5], "tokens": [{"text": "fog"}]}
    JobContent.objects.filter(pk=job.pk).update(partial={"parts": {"0": part}})
    silences: list[int] = []

    def silent() -> None:
        silences.append(1)
        if len(silences) == 8:
            Job.objects.filter(pk=job.pk).update(status=Status.SUCCEEDED)

    for name, value in (("script", []), ("is_deaf", True), ("silent", staticmethod(silent))):
        monkeypatch.setattr(_Listener, name, value, raising=False)
    found = told(job)
    assert [name for name, _ in found] == ["state", "delta", "done"], "told once, for it did not change"
    assert found[1][1] == {
        "job": str(job.pk),
        "index": 0,
        "part": {"start": 0, "ids": [5], "tokens": [{"text": "fog"}]},
    }


def test_a_stream_that_redis_lost_is_read_from_its_new_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pipe:
        def xrevrange(self, name: str, count: int) -> None:
            pass

        async def execute(self) -> list[Any]:
            return [[("1-12", {})], [("1-12", {})], []]

    class Redis:
        def pipeline(self, transaction: bool) -> Pipe:
            return Pipe()

    monkeypatch.setattr(events, "_client", Redis)
    listener = events.Listener(["a", "b", "c", "d"])
    listener.last = {"a": "1-39", "b": "1-12", "c": "2-3", "d": "0-0"}
    asyncio.run(listener.begin_anew())
    assert listener.last == {"a": "0-0", "b": "1-12", "c": "2-3", "d": "0-0"}


def test_a_batch_that_is_erased_ends_its_stream(job: Job) -> None:
    batch = Batch.objects.create(task=TASK, variant="voices", total=2)

    async def follow() -> str:
        told = []
        async for event in streams.follow_batch(batch.pk):
            told.append(event)
            await asyncio.to_thread(batch.delete) if len(told) == 2 else None
        return "".join(told)

    told = async_to_sync(follow)()
    assert '"total": 2' in told
    assert told.endswith('event: done\ndata: {"status": "erased"}\n\n')


@pytest.mark.parametrize("fails", [False, True])
def test_who_waits_holds_no_connection(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = Mock(in_atomic_block=False, vendor="postgresql")
    monkeypatch.setattr(database, "connection", connection)

    def call(number: int) -> int:
        if fails:
            raise ValueError
        return number

    with pytest.raises(ValueError) if fails else nullcontext():
        assert async_to_sync(database.asked(call))(7) == 7
    connection.close.assert_called_once_with()
