"""Operations: self-test, evaluation, comparison, replay; cancelled, given back, lost."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from django.contrib.auth.models import Group, User
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from mlcore.bundle import Bundle
from mlcore.errors import BundleError, InvalidInput
from tests.conftest import make_bundle
from webapp.jobs import claims, operate, operations, upkeep
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


def uploaded(text: str, name: str = "dev.jsonl", encoding: str = "utf-8") -> File:
    key = default_storage.save(f"uploads/{name}", ContentFile(text.encode(encoding)))
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


def test_a_self_test_reads_the_files_of_a_version_that_is_in_memory(version: ModelVersion, slow: Server) -> None:
    slow.loaded.load(version)
    operation = operations.start(Kind.CHECK, version)
    work(slow)
    assert reread(operation).result == {"examples": 5}
    (registry.bundle_path(version) / "card.md").write_text("damaged")
    operation = operations.start(Kind.CHECK, version)
    work(slow)
    assert reread(operation).status == Status.FAILED
    assert "card.md" in reread(operation).error


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
    table = "positive\tA good film.\n\nnegative\tBad.\n \n"
    operation = operations.start(Kind.EVALUATE, version, file=uploaded(table))
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


@pytest.mark.parametrize(
    "text", ["positive\tA caf\xe9.\n", '{"inputs": {"text": "A caf\xe9."}, "expected": "positive"}\n']
)
def test_a_file_in_another_encoding_is_refused_in_words(version: ModelVersion, slow: Server, text: str) -> None:
    operation = operations.start(Kind.EVALUATE, version, file=uploaded(text, encoding="latin-1"))
    work(slow)
    assert "not text in UTF-8" in reread(operation).error


def test_only_what_scores_need_is_kept_of_an_answer(version: ModelVersion, slow: Server) -> None:
    rows = [operate.Row({"text": "A good film."}, None, "positive"), operate.Row({"text": ""}, None, "positive")]
    steps = operate._ask(slow.loaded.load(version), rows, 0, 2)
    try:
        while True:
            next(steps)
    except StopIteration as end:
        good, bad = end.value
    assert isinstance(good.scored, str) and good.scored in good.headline.lower()
    assert (good.error, bad.scored) == ("", None)
    assert bad.headline == f"no answer: {bad.error}"


def test_two_versions_are_compared_on_what_people_asked(
    client: Client, version: ModelVersion, second: ModelVersion, run_jobs: Callable[[], None], slow: Server
) -> None:
    ask(client, run_jobs, 3)
    operation = operations.start(Kind.COMPARE, second, other=version, number=10)
    work(slow)
    result = reread(operation).result
    assert result["items"] == 3
    assert {side["version"] for side in result["versions"]} == {f"{TASK}/en@1", f"{TASK}/en@2"}
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


def archive(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for path in folder.iterdir():
            opened.write(path, path.name)
    return buffer.getvalue()


def test_an_uploaded_bundle_is_tested_before_it_may_answer(version: ModelVersion, slow: Server, tmp_path: Path) -> None:
    good = make_bundle(TASK, tmp_path / "good", version=2)
    operation = operations.install_upload([archive(good.path)])
    assert operation.version is not None
    assert (str(operation.version), operation.version.status) == (f"{TASK}/en@2", "staged")
    work(slow)
    assert reread(operation).status == Status.SUCCEEDED
    assert ModelVersion.objects.filter(version=2, status="staged").exists()


def test_a_bundle_that_fails_its_self_test_leaves_nothing(version: ModelVersion, slow: Server, tmp_path: Path) -> None:
    made = make_bundle(TASK, tmp_path / "bad", version=3)
    stored = made.read_json("examples.json")
    stored["examples"][0]["output"]["score"] = 5.0
    manifest = {name: value for name, value in made.manifest.items() if name not in ("format", "tensors", "digests")}
    files = {name: made.read(name) for name in made.manifest["digests"] if name != "weights.safetensors"}
    lying = Bundle.write(
        tmp_path / "lying",
        manifest=manifest,
        weights=made.weights(),
        files={**files, "examples.json": json.dumps(stored).encode()},
    )
    operation = operations.install_upload([archive(lying.path)])
    installed = registry.bundle_path(ModelVersion.objects.get(version=3))
    work(slow)
    found = reread(operation)
    assert found.status == Status.FAILED
    assert "example 1 is answered differently" in found.error
    assert found.label == f"{TASK}/en@3"
    assert not ModelVersion.objects.filter(version=3).exists()
    assert not installed.exists()


def test_a_version_that_worked_once_outlives_a_failed_self_test(
    version: ModelVersion, second: ModelVersion, slow: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    operations.start(Kind.CHECK, second)
    work(slow)
    for error in (BundleError("It lies."), MemoryError()):
        monkeypatch.setattr(slow.loaded, "check", Mock(side_effect=error))
        operation = operations.start(Kind.CHECK, second)
        work(slow)
        assert reread(operation).status == Status.FAILED
    assert ModelVersion.objects.filter(pk=second.pk).exists()


def test_a_step_that_takes_long_keeps_its_lease(version: ModelVersion) -> None:
    operations.start(Kind.CHECK, version)
    held = operations.claim(queues=["slow"], worker="w")
    assert held is not None and held.lease_token is not None
    Operation.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    claims.renew({held.lease_token})
    upkeep.sweep()
    assert reread(held).status == Status.RUNNING


def test_a_window_is_answered_in_steps(version: ModelVersion, slow: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A document of thousands of sentences must not look like a step that hangs."""
    monkeypatch.setattr(operate, "_LOOK_S", 0.0)
    predictor = slow.loaded.load(version)
    monkeypatch.setattr(predictor, "stepwise", lambda requests: iter([[], [], [{}] * len(requests)]))
    rows = [operate.Row({"text": "a"})]
    steps = operate._ask(predictor, rows, 0, 1)
    told = list(steps)
    assert len(told) == 4


def test_each_row_that_is_read_is_a_step(version: ModelVersion, slow: Server) -> None:
    """Sixteen documents take longer to be read than a step may."""
    steps = list(slow.loaded.load(version).stepwise([{"text": ""}] * 5))
    assert steps[:-1] == [[]] * 4
    assert len(steps[-1]) == 5


def test_only_staged_versions_are_uninstalled(version: ModelVersion, second: ModelVersion) -> None:
    assert not registry.uninstall(version)
    assert registry.uninstall(second)
    assert ModelVersion.objects.count() == 1


def test_an_operator_installs_evaluates_and_cancels_in_the_admin(
    client: Client, version: ModelVersion, slow: Server, tmp_path: Path
) -> None:
    operator = User.objects.create_user("olga", is_staff=True)
    operator.groups.add(Group.objects.get(name="operator"))
    client.force_login(operator)
    start = "/admin/jobs/operation/add/"
    assert "Start an operation" in client.get(start).content.decode()
    good = make_bundle(TASK, tmp_path / "good", version=2)
    sent = SimpleUploadedFile("bundle.zip", archive(good.path))
    page = client.post(start, {"kind": "install", "archive": sent}, follow=True).content.decode()
    assert f"{TASK}/en@2" in page
    bad = SimpleUploadedFile("bundle.zip", b"nothing")
    assert "no zip archive" in client.post(start, {"kind": "install", "archive": bad}).content.decode()
    for fields, words in (
        ({"kind": "install"}, "Choose an archive"),
        ({"kind": "evaluate"}, "Choose a version"),
        ({"kind": "evaluate", "version": version.pk}, "labelled file"),
        ({"kind": "compare", "version": version.pk}, "second version"),
        ({"kind": "replay", "version": version.pk, "number": 5_000}, "less than or equal"),
    ):
        assert words in client.post(start, fields).content.decode()
    file = SimpleUploadedFile("dev.jsonl", labelled("positive", "negative").encode())
    client.post(start, {"kind": "evaluate", "version": version.pk, "labelled": file})
    work(slow)
    evaluated = Operation.objects.get(kind="evaluate")
    assert evaluated.by == operator
    shown = client.get(f"/admin/jobs/operation/{evaluated.pk}/change/").content.decode()
    assert "macro_recall" in shown
    client.post(start, {"kind": "replay", "version": version.pk, "number": 5})
    waiting = Operation.objects.get(kind="replay")
    client.post("/admin/jobs/operation/", {"action": "cancel", "_selected_action": [str(waiting.pk)]})
    assert reread(waiting).status == Status.CANCELLED


def test_a_viewer_starts_nothing(client: Client, version: ModelVersion) -> None:
    viewer = User.objects.create_user("vera", is_staff=True)
    viewer.groups.add(Group.objects.get(name="viewer"))
    client.force_login(viewer)
    assert client.get("/admin/jobs/operation/").status_code == 200
    assert client.post("/admin/jobs/operation/add/", {"kind": "check", "version": version.pk}).status_code == 302
    assert not Operation.objects.exists()


def test_a_labelled_file_that_was_deleted_is_said(version: ModelVersion, slow: Server) -> None:
    file = uploaded(labelled("positive"))
    operation = operations.start(Kind.EVALUATE, version, file=file)
    file.delete()
    work(slow)
    assert "deleted meanwhile" in reread(operation).error


def test_a_comparison_of_nothing_says_so(version: ModelVersion, second: ModelVersion, slow: Server) -> None:
    operation = operations.start(Kind.COMPARE, second, other=version, number=10)
    work(slow)
    assert reread(operation).status == "failed"
    assert "nothing to compare" in reread(operation).error
