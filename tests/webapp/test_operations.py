"""Operations: self-test, evaluation, comparison, replay; cancelled, given back, lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import Client
from django.utils import timezone

from mlcore.errors import InvalidInput
from tests.conftest import make_bundle
from webapp.jobs import operate, operations, upkeep
from webapp.jobs.models import File, Job, Operation, Status
from webapp.jobs.server import Server
from webapp.registry import services as registry
from webapp.registry.models import ModelVersion

from .conftest import TASK

Kind = Operation.Kind


@pytest.fixture
def slow(version: ModelVersion) -> Server:
    return Server(["slow"], device="cpu")


@pytest.fixture
def second(version: ModelVersion, tmp_path: Path) -> ModelVersion:
    return registry.install(make_bundle(TASK, tmp_path, version=2).path)


def uploaded(text: str, name: str = "dev.jsonl") -> File:
    key = default_storage.save(f"uploads/{name}", ContentFile(text.encode()))
    return File.objects.create(sha256="", size=len(text), key=key, name=name, media="labelled")


def labelled(*labels: str) -> str:
    rows = [{"inputs": {"text": f"Text {i} of some."}, "expected": label} for i, label in enumerate(labels)]
    return "\n".join(map(json.dumps, rows))


def work(server: Server) -> None:
    while server.serve():
        pass


def reread(operation: Operation) -> Operation:
    return Operation.objects.get(pk=operation.pk)


def ask(client: Client, run_jobs: Callable[[], None], number: int) -> None:
    for i in range(number):
        client.post(f"/tasks/{TASK}/run", {"text": f"Question {i}."})
    run_jobs()


def test_a_self_test_runs_the_bundles_examples(version: ModelVersion, slow: Server) -> None:
    operation = operations.start(Kind.CHECK, version)
    work(slow)
    assert reread(operation).status == Status.SUCCEEDED
    assert reread(operation).result == {"examples": 5}


def test_an_evaluation_lands_on_the_version(version: ModelVersion, slow: Server) -> None:
    file = uploaded(labelled("positive", "negative", "neutral", "positive"))
    operation = operations.start(Kind.EVALUATE, version, file=file)
    work(slow)
    found = reread(operation)
    assert found.status == Status.SUCCEEDED, found.error
    assert found.result["items"] == 4
    assert 0 <= found.result["scores"]["accuracy"] <= 1
    version.refresh_from_db()
    assert version.metrics["evaluated_here"]["dev.jsonl"] == found.result["scores"]


def test_a_table_of_two_columns_is_read_too(version: ModelVersion, slow: Server) -> None:
    operation = operations.start(Kind.EVALUATE, version, file=uploaded("positive\tA good film.\nnegative\tBad.\n"))
    work(slow)
    assert reread(operation).result["items"] == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one column\n", "Line 1 is not"),
        ('{"inputs": 1}\n', "Line 1 is no object"),
        ('{"inputs": {"text": "a"}}\n', "expected"),
        ('{"inputs": {"text": ""}, "expected": "x"}\n', "None of the 1 rows"),
        ('{"inputs": {"text": "a"}, "expected": "x"}\nnonsense\n', "Line 2 is no JSON"),
    ],
)
def test_a_bad_file_is_refused_in_words(version: ModelVersion, slow: Server, text: str, words: str) -> None:
    operation = operations.start(Kind.EVALUATE, version, file=uploaded(text))
    work(slow)
    assert reread(operation).status == Status.FAILED
    assert words in reread(operation).error


def test_two_versions_are_compared_on_what_people_asked(
    client: Client, version: ModelVersion, second: ModelVersion, run_jobs: Callable[[], None], slow: Server
) -> None:
    ask(client, run_jobs, 3)
    operation = operations.start(Kind.COMPARE, second, other=version, number=10)
    work(slow)
    result = reread(operation).result
    assert result["items"] == 3
    assert set(result["versions"]) == {f"{TASK}/en@1", f"{TASK}/en@2"}
    assert result["agreement"] == 1.0, "the same toy weights"
    assert result["differences"] == []


def test_a_replay_shows_what_would_have_changed(
    client: Client, version: ModelVersion, second: ModelVersion, run_jobs: Callable[[], None], slow: Server
) -> None:
    ask(client, run_jobs, 4)
    changed = Job.objects.first()
    assert changed is not None
    Job.objects.filter(pk=changed.pk).update(answer="Something else, 99 %")
    operation = operations.start(Kind.REPLAY, second, number=100)
    work(slow)
    result = reread(operation).result
    assert (result["items"], result["agreement"], result["errors"]) == (4, 0.75, 0)
    assert result["differences"][0]["then"] == "Something else, 99 %"
    assert "user" not in json.dumps(result)
    assert result["latency_ms"]["then"] is not None


def test_what_an_operation_lacks_is_said_at_once(version: ModelVersion, second: ModelVersion) -> None:
    for kind, options, words in (
        (Kind.EVALUATE, {}, "labelled file"),
        (Kind.COMPARE, {"number": 5}, "second version"),
        (Kind.COMPARE, {"other": version, "number": 5}, "another version"),
        (Kind.REPLAY, {"number": 0}, "from 1 to"),
    ):
        with pytest.raises(InvalidInput, match=words):
            operations.start(kind, version, **options)


def test_a_cancelled_operation_stops_at_its_next_step(
    version: ModelVersion, slow: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operate, "_WINDOW", 1)
    operation = operations.start(Kind.EVALUATE, version, file=uploaded(labelled(*["positive"] * 30)))
    plain, seen = operations.note_progress, []

    def cancelling(row: Operation, **progress: Any) -> bool:
        seen.append(progress["done"])
        if len(seen) == 3:
            operations.cancel(row)
        return plain(row, **progress)

    monkeypatch.setattr(operations, "note_progress", cancelling)
    work(slow)
    assert reread(operation).status == Status.CANCELLED
    assert seen == [0, 1, 2]


def test_an_operation_is_given_back_and_a_lost_one_tried_again(version: ModelVersion, slow: Server) -> None:
    operation = operations.start(Kind.CHECK, version)
    held = operations.claim(queues=["slow"], worker="w")
    assert held is not None
    assert operations.claim(queues=["slow"], worker="w") is None
    assert operations.give_back(held)
    for attempt in range(2):
        operations.claim(queues=["slow"], worker="w")
        Operation.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        upkeep.sweep()
        assert (reread(operation).status, reread(operation).attempts) == (Status.QUEUED, attempt + 1)
    operations.claim(queues=["slow"], worker="w")
    Operation.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    upkeep.sweep()
    assert reread(operation).status == Status.FAILED
    assert not operations.succeed(held, {}), "a stale worker cannot write"


def test_jobs_come_before_operations(client: Client, version: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    both = Server(["fast", "slow"], device="cpu")
    operations.start(Kind.CHECK, version)
    client.post(f"/tasks/{TASK}/run", {"text": "First."})
    order: list[str] = []
    monkeypatch.setattr(both, "_store", lambda running, found: order.append("job"))
    monkeypatch.setattr(both, "_operate", lambda: bool(order.append("operation")))
    both.serve()
    assert order == ["job", "operation"]
