"""The admin's look: the dashboard's figures, dialogs that ask before they act, its own policy, its pages."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import ADDITION, LogEntry
from django.test import Client
from django.utils import timezone

from mlcore.bundle import Bundle
from tests.conftest import make_bundle
from webapp.control import dashboard
from webapp.jobs import keys, operations, submission
from webapp.jobs.models import Feedback, Job, Operation, Queue, Status
from webapp.jobs.owners import Owner
from webapp.jobs.server import Server
from webapp.registry import services as registry
from webapp.registry.models import Activation, ModelVersion

from .conftest import TASK, VERSIONS, decide

pytestmark = pytest.mark.django_db
ANNA = Owner(session="anna")


def send(text: str = "good") -> Job:
    return submission.submit(submission.check(TASK, {"text": text}, owner=ANNA), owner=ANNA)


@pytest.mark.parametrize(
    ("values", "share", "found"),
    [([], 0.5, None), ([3.0], 0.95, 3.0), ([4.0, 1.0, 2.0, 3.0], 0.5, 2.0), (list(range(1, 101)), 0.95, 95)],
)
def test_a_percentile_is_the_nearest_rank(values: list[float], share: float, found: float | None) -> None:
    assert dashboard.percentile(values, share) == found


def test_the_chart_counts_each_minute_once() -> None:
    now = timezone.now()
    ended = [
        (status, now - timedelta(seconds=age)) for status, age in (("succeeded", 1), ("failed", 59), ("failed", 61))
    ]
    chart = dashboard.chart(ended, now)
    assert chart["top"] == 2
    before, last = chart["bars"]
    assert (before["x"], last["x"]) == (58, 59)
    assert last["done"] == (50.0, 50.0)
    assert last["failed"] == (0.0, 50.0)
    assert before["failed"] == (50.0, 50.0)
    assert dashboard.chart([], now)["bars"] == []


def test_the_dashboard_says_what_the_last_hour_was_like(
    version: ModelVersion, server: Server, run_jobs: Callable[[], None], admin_client: Client
) -> None:
    for text in ("good", "bad", "fine"):
        send(text)
    run_jobs()
    Job.objects.filter(pk=Job.objects.values("pk")[:1]).update(status=Status.FAILED)
    send("this one waits")
    Job.objects.filter(status=Status.QUEUED).update(created_at=timezone.now() - timedelta(minutes=4))
    server.heartbeat.write()
    Queue.objects.create(name="slow")
    board = dashboard.board()
    cards = {title: (value, said) for title, value, said in board["cards"]}
    assert cards["Failed"] == ("33.3%", "1 of 3")
    assert cards["Mean batch"][0] == "3.0"
    assert cards["Workers"][0] == "1"
    (row,) = board["tasks"]
    assert (row["jobs"], row["failed"]) == ("3", "33.3%")
    assert all(row["times"])
    assert [(queue["name"], queue["waiting"], queue["age"], queue["state"]) for queue in board["queues"]] == [
        ("fast", "1", "4 min", "served"),
        ("slow", "0", "", "paused"),
    ]
    page = admin_client.get("/admin/").content.decode()
    assert "Sentiment" in page
    assert str(version) in page
    assert "4 min" in page


def test_a_stranger_to_jobs_sees_no_figures(client: Client, version: ModelVersion, django_user_model: Any) -> None:
    client.force_login(django_user_model.objects.create_user("new", password="x", is_staff=True))
    page = client.get("/admin/").content.decode()
    assert "put you into a group" in page
    assert str(version) not in page


def test_a_switch_asks_for_its_reason_and_shows_the_scores(
    version: ModelVersion, tmp_path: Any, admin_client: Client
) -> None:
    bundle: Bundle = make_bundle(TASK, tmp_path, version=2)
    second = registry.install(bundle.path)
    for row, value in ((version, 0.5), (second, 0.75)):
        ModelVersion.objects.filter(pk=row.pk).update(metrics={"evaluated_here": {"dev.tsv": {"accuracy": value}}})
    place = f"{VERSIONS}{second.pk}/activate/"
    dialog = admin_client.get(place).content.decode()
    assert f"<strong>{second}</strong> will answer" in dialog
    assert "<td>accuracy</td><td>0.5000</td><td>0.7500</td>" in dialog
    refused = admin_client.post(place, {"_form_submitted": "on", "reason": "  "})
    assert "HX-Redirect" not in refused.headers
    assert registry.active(TASK, "en") == version
    decide(admin_client, second.pk, "activate", "better")
    assert registry.active(TASK, "en") == second
    back = admin_client.get(f"{VERSIONS}{second.pk}/roll-back/").content.decode()
    assert f"<strong>{version}</strong> will answer" in back
    decide(admin_client, second.pk, "roll-back", "worse")
    assert [row.reason for row in Activation.objects.all()[:2]] == ["worse", "better"]
    assert "does not answer any more" in decide(admin_client, second.pk, "roll-back", "sent twice")
    assert registry.active(TASK, "en") == version


def test_every_page_of_the_admin_opens_under_its_policy(admin_client: Client, version: ModelVersion) -> None:
    send()
    for model, model_admin in admin.site._registry.items():
        place = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        response = admin_client.get(place)
        assert response.status_code == 200, place
        policy = response.headers["Content-Security-Policy"]
        assert "script-src 'self' 'unsafe-eval'" in policy
        assert "http" not in policy
        row = model_admin.get_queryset(response.wsgi_request).first()
        if row is not None:
            assert admin_client.get(f"{place}{row.pk}/change/").status_code == 200, place
    assert "unsafe" not in admin_client.get("/").headers["Content-Security-Policy"]


def test_the_audit_log_is_read_and_never_written(admin_client: Client, version: ModelVersion, tmp_path: Any) -> None:
    second = registry.install(make_bundle(TASK, tmp_path, version=2).path)
    decide(admin_client, second.pk, "retire")
    page = admin_client.get("/admin/admin/logentry/").content.decode()
    assert "retired: workers unload it" in page
    assert admin_client.get("/admin/admin/logentry/add/").status_code == 403


def test_every_action_is_on_record(admin_client: Client, version: ModelVersion, django_user_model: Any) -> None:
    job, other = send(), send("another")
    key, _ = keys.make(django_user_model.objects.create_user("berta"), "a program")
    remark = Feedback.objects.create(version=version, task=TASK, asked="a", ours="b", theirs="c", session="anna")
    operation = operations.start(Operation.Kind.CHECK, version)
    for place, rows, action, done in (
        ("jobs/job", [job, other], "cancel", "cancelled"),
        ("jobs/job", [job], "requeue", "queued again"),
        ("jobs/feedback", [remark], "accept", "accepted"),
        ("jobs/feedback", [remark], "dismiss", "dismissed"),
        ("jobs/apikey", [key], "revoke", "revoked"),
        ("jobs/operation", [operation], "cancel", "cancelled"),
    ):
        before = set(LogEntry.objects.values_list("pk", flat=True))
        admin_client.post(f"/admin/{place}/", {"action": action, "_selected_action": [row.pk for row in rows]})
        new = LogEntry.objects.exclude(pk__in=before)
        assert sorted(entry.object_id for entry in new) == sorted(str(row.pk) for row in rows), (place, action)
        assert {entry.get_change_message() for entry in new} == {done}
    form = {"kind": "check", "version": version.pk}
    admin_client.post("/admin/jobs/operation/add/", form)
    assert LogEntry.objects.latest("pk").action_flag == ADDITION


def test_who_is_no_staff_is_told_so(client: Client, django_user_model: Any) -> None:
    client.force_login(django_user_model.objects.create_user("anna"))
    refused = client.get("/admin/", follow=True)
    assert refused.status_code == 403
    assert "may not enter the admin" in refused.content.decode()


def test_the_mean_batch_is_over_steps() -> None:
    assert dashboard._mean_batch([8] * 8 + [1]) == "4.5"
    assert dashboard._mean_batch([]) == ""
