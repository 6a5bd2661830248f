"""What operators do: switch when workers are warm, retire, delete, pause, limit; viewers only look."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from mlcore.bundle import Bundle
from mlcore.errors import BundleError
from tests.conftest import make_bundle
from webapp.control import curves, rendering
from webapp.jobs import caretaker, loaded, queries, services, submission, switching
from webapp.jobs.models import Feedback, Job, Queue, Worker
from webapp.jobs.owners import Owner
from webapp.jobs.server import Server
from webapp.registry import services as registry
from webapp.registry.models import Activation, ModelVersion, TaskSetting

from .conftest import TASK, VERSIONS, decide

pytestmark = pytest.mark.django_db
ANNA = Owner(session="anna")


@pytest.fixture(scope="module")
def second_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A second version of the tiny bundle."""
    return make_bundle(TASK, tmp_path_factory.mktemp("second"), version=2)


@pytest.fixture
def second(version: ModelVersion, second_bundle: Bundle) -> ModelVersion:
    """It, installed and staged beside the first."""
    return registry.install(second_bundle.path)


@pytest.fixture
def alive(server: Server) -> Server:
    """A worker whose row says that it lives."""
    server.heartbeat.write()
    return server


@pytest.fixture
def operator(django_user_model: Any) -> Client:
    """Signed in, of the group operator."""
    return member(django_user_model, "operator")


def member(users: Any, group: str) -> Client:
    person = users.objects.create_user(group, password="x", is_staff=True)
    person.groups.add(Group.objects.get(name=group))
    client = Client()
    client.force_login(person)
    return client


def act(client: Client, place: str, action: str, *pks: Any, **more: str) -> str:
    form = {"action": action, "_selected_action": [str(pk) for pk in pks], **more}
    return client.post(place, form, follow=True).content.decode()


def send(text: str = "good") -> Job:
    return submission.submit(submission.check(TASK, {"text": text}, owner=ANNA), owner=ANNA)


def test_a_version_answers_once_every_worker_has_loaded_it(
    second: ModelVersion, alive: Server, operator: Client
) -> None:
    said = decide(operator, second.pk, "activate", "better on long texts")
    assert "answers as soon as they are ready" in said
    assert "workers load it to let it answer" in operator.get(VERSIONS).content.decode()
    assert registry.active(TASK, "en").version == 1
    other = Worker.objects.create(name="other:1", host="other", pid=1, queues=["fast"], seen_at=timezone.now())
    alive.caretaker.look()
    assert second.pk in alive.loaded.predictors
    assert registry.active(TASK, "en").version == 1, "the other worker is cold"
    other.loaded = [str(second)]
    other.save()
    alive.caretaker.look()
    assert registry.active(TASK, "en") == second
    switch = Activation.objects.first()
    assert switch is not None and switch.previous is not None and switch.previous.version == 1
    assert (switch.by and switch.by.get_username(), switch.reason) == ("operator", "better on long texts")
    assert switch.metrics == second.metrics
    decide(operator, second.pk, "roll-back", "worse on short ones")
    other.loaded = [f"{TASK}/en@1"]
    other.save()
    alive.caretaker.look()
    assert registry.active(TASK, "en").version == 1
    assert [row.kind for row in Activation.objects.all()[:2]] == ["roll-back", "person"]


def test_no_job_waits_while_another_version_is_loaded(
    version: ModelVersion, second: ModelVersion, alive: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive.loaded.load(version)
    began, go_on = threading.Event(), threading.Event()

    def slowly(wanted: ModelVersion) -> Any:
        began.set()
        assert go_on.wait(10)

    monkeypatch.setattr(alive.loaded, "_load", slowly)
    loading = threading.Thread(target=alive.loaded.load, args=[second])
    loading.start()
    assert began.wait(10)
    asking = threading.Thread(target=alive.loaded.get, args=[version])
    asking.start()
    asking.join(10)
    answered = not asking.is_alive()
    go_on.set()
    loading.join()
    assert answered


def test_a_cold_worker_holds_up_a_switch_for_a_minute_at_most(second: ModelVersion, alive: Server) -> None:
    Worker.objects.create(name="cold:1", host="h", pid=1, queues=["fast"], seen_at=timezone.now())
    registry.want(second)
    alive.caretaker.look()
    assert registry.active(TASK, "en").version == 1
    ModelVersion.objects.filter(pk=second.pk).update(wanted_at=timezone.now() - timedelta(seconds=61))
    Worker.objects.filter(name="cold:1").update(seen_at=timezone.now())
    alive.caretaker.look()
    assert registry.active(TASK, "en") == second


def test_whatever_stops_a_version_from_loading_marks_it_faulty(
    version: ModelVersion, second: ModelVersion, alive: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.want(second)
    monkeypatch.setattr(loaded, "Predictor", Mock(side_effect=MemoryError("out of memory")))
    alive.caretaker.look()
    second.refresh_from_db()
    assert "MemoryError" in second.fault
    Worker.objects.all().delete()
    with pytest.raises(BundleError, match="cannot be loaded"):
        switching.switch(second)
    assert registry.active(TASK, "en") == version


def test_a_version_that_loads_again_is_faulty_no_more(version: ModelVersion, alive: Server) -> None:
    registry.mark_faulty(version, "It could not be read.")
    alive.preload()
    assert registry.active(TASK, "en") == version


def test_a_worker_in_a_long_shift_puts_lost_jobs_back_too(
    version: ModelVersion, alive: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = send("lost with its worker")
    gone = {"status": "running", "lease_token": uuid4(), "lease_until": timezone.now() - timedelta(minutes=1)}
    Job.objects.filter(pk=job.pk).update(attempts=1, **gone)
    alive.caretaker.look()
    assert Job.objects.get(pk=job.pk).status == "running", "not at every look"
    monkeypatch.setattr(caretaker, "SWEEP_S", 0.0)
    alive.caretaker.look()
    assert Job.objects.get(pk=job.pk).status == "queued"


def test_memory_is_given_back_once_work_has_ended(alive: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    tidied: list[int] = []
    monkeypatch.setattr(alive.loaded, "tidy", lambda: tidied.append(1))
    monkeypatch.setattr(caretaker, "QUIET_S", 30.0)
    alive.heartbeat.begin_step()
    alive.heartbeat.end_step()
    alive.caretaker.look()
    assert not tidied, "more may come at once"
    monkeypatch.setattr(caretaker, "QUIET_S", 0.0)
    alive.caretaker.look()
    alive.caretaker.look()
    assert len(tidied) == 1, "once"


def test_a_dead_worker_holds_up_no_switch(second: ModelVersion, alive: Server) -> None:
    Worker.objects.create(
        name="gone:1", host="gone", pid=1, queues=["fast"], seen_at=timezone.now() - timedelta(minutes=1)
    )
    assert switching.switch(second) is None
    alive.caretaker.look()
    assert registry.active(TASK, "en") == second


def test_a_version_that_does_not_load_is_marked_and_never_answers(second: ModelVersion, alive: Server) -> None:
    registry.want(second)
    (registry.bundle_path(second) / "weights.safetensors").write_bytes(b"nothing")
    alive.caretaker.look()
    second.refresh_from_db()
    assert second.fault and second.wanted_at is None
    assert registry.active(TASK, "en").version == 1
    with pytest.raises(BundleError, match="cannot be loaded"):
        registry.want(second)
    with pytest.raises(CommandError, match="cannot be loaded"):
        call_command("activate", str(second))


def test_a_retired_version_leaves_memory_and_comes_back(second: ModelVersion, alive: Server, operator: Client) -> None:
    alive.loaded.load(second)
    assert "retired: workers unload it" in decide(operator, second.pk, "retire")
    alive.caretaker.look()
    assert second.pk not in alive.loaded.predictors
    first = registry.active(TASK, "en")
    assert "answers, or soon will" in decide(operator, first.pk, "retire")
    registry.want(second)
    alive.caretaker.look()
    assert registry.active(TASK, "en") == second
    assert second.pk in alive.loaded.predictors


def test_an_idle_version_leaves_memory_where_its_task_says_so(version: ModelVersion, alive: Server) -> None:
    alive.loaded.load(version)
    alive.loaded.used[version.pk] -= 100
    alive.caretaker.look()
    assert version.pk in alive.loaded.predictors
    TaskSetting.objects.create(task=TASK, idle_minutes=1)
    alive.caretaker.look()
    assert version.pk not in alive.loaded.predictors


def test_the_version_unused_for_longest_makes_room(
    version: ModelVersion, alive: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded, "MAX_LOADED", 2)
    second, third = (
        registry.install(make_bundle(TASK, tmp_path / str(number), version=number).path) for number in (2, 3)
    )
    for row in (version, second, version, third):
        alive.loaded.get(row)
    assert set(alive.loaded.predictors) == {version.pk, third.pk}
    assert sorted(Worker.objects.get().loaded) == sorted([str(version), str(third)])
    send()
    while alive.serve():
        pass
    assert Job.objects.get().status == "succeeded"


def test_a_version_that_answered_is_kept_while_its_job_is(
    version: ModelVersion, second: ModelVersion, operator: Client, run_jobs: Callable[[], None]
) -> None:
    registry.activate(second)
    job = send()
    run_jobs()
    registry.activate(registry.before(TASK, "en"), kind=Activation.Kind.ROLL_BACK)
    assert "cannot be deleted" in decide(operator, second.pk, "remove")
    assert registry.bundle_path(second).is_dir()
    assert "came with the project" in decide(operator, version.pk, "remove")
    assert ModelVersion.objects.count() == 2
    assert Job.objects.get().pk == job.pk


def test_a_version_that_never_answered_goes_with_its_files(second: ModelVersion, operator: Client) -> None:
    path = registry.bundle_path(second)
    assert path.is_dir()
    assert "deleted." in decide(operator, second.pk, "remove")
    assert not path.exists()
    assert not ModelVersion.objects.filter(pk=second.pk).exists()


def test_a_paused_queue_keeps_its_jobs_until_it_goes_on(
    alive: Server, operator: Client, run_jobs: Callable[[], None]
) -> None:
    assert operator.post("/admin/jobs/queue/add/", {"name": "fast"}).status_code == 302
    alive.caretaker.look()
    job = send()
    run_jobs()
    job.refresh_from_db()
    assert job.status == "queued"
    waiting = queries.waiting(job)
    assert waiting is not None and "paused this queue" in waiting.sentence
    assert "resumed" in act(operator, "/admin/jobs/queue/", "resume", Queue.objects.get().pk)
    alive.caretaker.look()
    run_jobs()
    job.refresh_from_db()
    assert job.status == "succeeded"


def test_a_task_is_switched_off_limited_and_moved(
    version: ModelVersion, operator: Client, client: Client, run_jobs: Callable[[], None]
) -> None:
    place = "/admin/registry/tasksetting/"
    form = {"task": TASK, "enabled": "on", "daily_limit": "2", "queue": "slow", "idle_minutes": "0"}
    assert operator.post(f"{place}add/", form).status_code == 302
    assert [send().queue for _ in range(2)] == ["slow", "slow"]
    with pytest.raises(submission.QueueFull, match="2"):
        send()
    services.erase(Job.objects.all()[0])
    with pytest.raises(submission.QueueFull, match="2 of yours are in"):
        send()
    del form["enabled"]
    pk = TaskSetting.objects.get().pk
    assert operator.post(f"{place}{pk}/change/", form).status_code == 302
    with pytest.raises(registry.ModelUnavailable, match="switched off"):
        send()
    assert "switched off" in client.get(f"/tasks/{TASK}/").content.decode()


def test_a_viewer_looks_and_does_nothing(second: ModelVersion, alive: Server, django_user_model: Any) -> None:
    viewer = member(django_user_model, "viewer")
    send()
    for page in ("registry/modelversion", "registry/activation", "registry/tasksetting", "jobs/queue", "jobs/worker"):
        assert viewer.get(f"/admin/{page}/").status_code == 200, page
    for action in ("activate", "roll-back", "retire", "remove"):
        assert viewer.get(f"{VERSIONS}{second.pk}/{action}/").status_code == 403
        assert viewer.post(f"{VERSIONS}{second.pk}/{action}/", {"_form_submitted": "on"}).status_code == 403
    page = viewer.get(f"{VERSIONS}{second.pk}/change/").content.decode()
    assert f"{second.pk}/activate/" not in page
    assert viewer.post("/admin/jobs/queue/add/", {"name": "fast"}).status_code == 403
    assert viewer.get("/admin/registry/tasksetting/add/").status_code == 403
    second.refresh_from_db()
    assert (second.status, second.wanted_at, second.retired_at) == ("staged", None, None)
    assert not Queue.objects.exists()


def test_the_pages_of_workers_and_jobs_say_what_operators_ask(
    alive: Server, operator: Client, run_jobs: Callable[[], None]
) -> None:
    send("a private sentence")
    run_jobs()
    alive.heartbeat.note_error("sentiment-analysis: OSError")
    alive.heartbeat.write()
    page = operator.get("/admin/jobs/worker/").content.decode()
    assert "sentiment-analysis: OSError" in page
    assert f"{TASK}/en@1" in page
    row = Worker.objects.get()
    assert row.stats[TASK]["outcomes"] == {"succeeded": 1}
    assert sum(row.stats[TASK]["wait"]["counts"]) == 1
    for query in ("", "?age=hour", "?age=older", "?status=succeeded", "?q=nobody"):
        page = operator.get(f"/admin/jobs/job/{query}").content.decode()
        assert "a private sentence" not in page
    assert Job.objects.count() == 1


def test_feedback_without_a_correction_is_a_judgement(version: ModelVersion) -> None:
    row = Feedback(task=TASK, version=version, asked="a", ours="b", session="s", right=True)
    row.full_clean(exclude=["job"])


def test_an_operator_may_delete_what_people_said(
    version: ModelVersion, operator: Client, django_user_model: Any
) -> None:
    row = Feedback.objects.create(task=TASK, version=version, asked="a", ours="b", theirs="c", session="s")
    chosen = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    member(django_user_model, "viewer").post("/admin/jobs/feedback/", chosen)
    assert Feedback.objects.exists()
    operator.post("/admin/jobs/feedback/", chosen)
    assert not Feedback.objects.exists()


def test_the_copy_of_a_bundle_installs_once(version: ModelVersion, tiny_bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(tiny_bundle.path, tmp_path / "copy")
    assert registry.install(tmp_path / "copy") == version


def test_a_versions_page_shows_its_card_and_what_to_do_next(version: ModelVersion, operator: Client) -> None:
    type(version).objects.update(
        card="# Title\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n<script>alert(1)</script> [x](javascript:alert(2)) "
        "![i](http://elsewhere/i.png)",
        metrics={"evaluated_here": {"dev.tsv": {"accuracy": 0.5}}},
    )
    page = operator.get(f"{VERSIONS}{version.pk}/change/").content.decode()
    assert "<h1>Title</h1>" in page
    assert "<td>1</td>" in page
    assert "<td>dev.tsv</td><td>accuracy</td><td>0.5000</td>" in page
    assert "<script>alert" not in page
    assert 'href="javascript' not in page
    assert "<img" not in page.split("Title</h1>")[1].split("</fieldset>")[0]
    form = operator.get(f"/admin/jobs/operation/add/?kind=replay&version={version.pk}").content.decode()
    assert '<option value="replay" selected>' in form
    assert f'<option value="{version.pk}" selected>' in form


def test_results_of_operations_are_tables() -> None:
    side = {"scores": {"accuracy": 0.5}, "latency_ms": 7, "errors": 0}
    differing = [{"asked": "<b>", "then": "positive", "now": "negative", "alike": 0.5}]
    shown = rendering.result(
        {
            "items": 2,
            "agreement": 0.5,
            "differences": differing,
            "versions": [side | {"version": "a@1"}, side | {"version": "a@2"}],
        }
    )
    assert "<th>asked</th><th>a@2</th><th>a@1</th>" in shown
    assert "<td>&lt;b&gt;</td><td>positive</td><td>negative</td><td>0.50</td>" in shown
    assert "<td>accuracy</td><td>0.5000</td><td>0.5000</td>" in shown
    replay = rendering.result({"items": 1, "agreement": 1.0, "differences": [], "latency_ms": {"then": None, "now": 3}})
    assert "unknown and 3" in replay


def test_learning_curves_of_a_card_are_drawn_and_other_tables_are_not() -> None:
    head = "| step | hours | BLEU | <b>CIDEr |\n| --- | --- | --- | --- |\n"
    card = rendering.card(
        f"# A\n\n{head}| 10 | 0.5 | 12.0 | 20 |\n| 20 | 1.0 | 30.5 | 41 |\n\n| set | BLEU |\n| --- | --- |\n| a | 1 |\n"
    )
    assert card.count("<figure") == 1
    assert card.count("<polyline") == 2
    assert card.index("<figure") < card.index("<td>10</td>"), "the table that says the same comes behind"
    assert "BLEU 12 to 30.5" in card
    assert "<b>" not in card
    last = "| 20 | 1.0 | 30.5 | 41 |\n"
    for rows in ("", last, f"| 10 | 0.5 | x | 20 |\n{last}", f"| 10 | 0.5 | nan | 20 |\n{last}"):
        assert "<figure" not in rendering.card(head + rows)
    assert "<figure" not in rendering.card(f"{head}| 10 | 0.5 | 1e308 | -1e308 |\n{last}")
    assert "<figure" not in rendering.card("| step | hours |\n| --- | --- |\n| 10 | 0.5 |\n| 20 | 1.0 |\n")
    twice = "| step | hours | BLEU | BLEU |\n| --- | --- | --- | --- |\n| 1 | 0 | 5 | 7 |\n| 2 | 0 | 5 | 7 |\n"
    assert rendering.card(twice).count("<polyline") == 2, "alike hours and columns of one name are drawn, too"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1.85, [0, 0.5, 1, 1.5, 2]),
        (9.5, 44.1, [0, 10, 20, 30, 40, 50]),
        (-5.4, -4.9, [-5.4, -5.3, -5.2, -5.1, -5, -4.9]),
        (3, 3, [2.8, 2.9, 3, 3.1, 3.2]),
        (1e11, 1e11 + 1e-3, [9.5e10, 9.75e10, 1e11, 1.025e11, 1.05e11]),
    ],
)
def test_axes_have_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert curves.ticks(low, high) == pytest.approx(expected)
