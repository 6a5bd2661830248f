"""A person's own page, and keys for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from asgiref.sync import async_to_sync
from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import AsyncClient, Client
from django.utils import timezone

from mlcore.errors import InvalidInput
from webapp.jobs import keys
from webapp.jobs.models import ApiKey, Batch, Feedback, File, Job, Remembered
from webapp.registry.models import Activation, ModelVersion

from .conftest import TASK, inputs

JOBS = "/api/v1/jobs"


@pytest.fixture
def anna(db: None) -> User:
    return User.objects.create_user("anna", password="correct horse")


@pytest.fixture
def signed_in(anna: User) -> Client:
    client = Client()
    client.force_login(anna)
    return client


def call(text: str, path: str = JOBS, body: Any = None, **headers: str) -> Any:
    headers["Authorization"] = f"Bearer {text}"
    if body is None:
        return Client().get(path, headers=headers)
    return Client().post(path, json.dumps(body), content_type="application/json", headers=headers)


def test_a_key_is_shown_once_and_acts_for_its_person(signed_in: Client, anna: User, version: ModelVersion) -> None:
    page = signed_in.post("/account/keys", {"name": "nightly"}).content.decode()
    text = page.split("<code>unroll_")[1].split("</code>")[0]
    text = f"unroll_{text}"
    assert text not in signed_in.get("/account/").content.decode()
    assert text.split("_", 2)[2] not in str(ApiKey.objects.values().get())
    made = call(text, body={"task": TASK, "inputs": inputs()})
    assert made.status_code == 202
    assert Job.objects.get().user == anna
    assert call(text).json()["jobs"][0]["id"] == made.json()["id"]
    assert ApiKey.objects.get().last_used_at is not None


@pytest.mark.parametrize("text", ["", "x", "unroll_000000000000_" + "a" * 43, "unroll_zz"])
def test_a_wrong_key_is_refused_in_words(db: None, text: str) -> None:
    answer = call(text)
    assert answer.status_code == 401
    assert answer.json()["error"]["field"] == "Authorization"
    assert "unknown or was revoked" in answer.json()["error"]["message"]


def test_a_revoked_key_and_a_sleeping_person_are_refused(signed_in: Client, anna: User) -> None:
    key, text = keys.make(anna, "one")
    assert call(text).status_code == 200
    signed_in.post(f"/account/keys/{key.pk}/revoke")
    assert call(text).status_code == 401
    _, other = keys.make(anna, "two")
    User.objects.update(is_active=False)
    assert call(other).status_code == 401


def test_nobody_revokes_another_ones_key(anna: User) -> None:
    key, text = keys.make(anna, "one")
    stranger = Client()
    stranger.force_login(User.objects.create_user("bob"))
    assert stranger.post(f"/account/keys/{key.pk}/revoke").status_code == 404
    assert call(text).status_code == 200


def test_a_days_jobs_are_counted_and_limited(anna: User, version: ModelVersion) -> None:
    _, text = keys.make(anna, "small", daily_limit=3)
    body = {"task": TASK, "inputs": inputs()}
    assert call(text, body=body).status_code == 202
    many = {"task": TASK, "items": [{"inputs": inputs()}] * 3}
    refused = call(text, "/api/v1/batches", many)
    assert refused.status_code == 429
    assert "has 2 left; this request needs 3" in refused.json()["error"]["message"]
    assert 0 < int(refused["Retry-After"]) <= 86_401
    assert call(text, "/api/v1/batches", {**many, "items": many["items"][:2]}).status_code == 202
    assert call(text, body=body).status_code == 429
    shown = call(text, "/api/v1/limits").json()
    assert (shown["key"]["used_today"], shown["key"]["daily_limit"]) == (3, 3)
    ApiKey.objects.update(used_on=timezone.now().date() - timedelta(days=1))
    assert call(text, body=body).status_code == 202
    assert Client().get("/api/v1/limits").json()["key"] is None


def test_a_day_pays_for_jobs_only(anna: User, version: ModelVersion) -> None:
    key, text = keys.make(anna, "small", daily_limit=2)
    assert call(text, "/api/v1/batches", {"task": "nothing", "items": [{"inputs": inputs()}] * 2}).status_code == 422
    half_bad = {"task": TASK, "items": [{"inputs": inputs()}, {"inputs": {}}]}
    assert call(text, "/api/v1/batches", half_bad).status_code == 202
    key.refresh_from_db()
    assert key.used_today == 1
    body = {"task": TASK, "inputs": inputs()}
    first, again = (call(text, body=body, **{"Idempotency-Key": "k"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202), "a repeat makes no job"
    assert first.json()["id"] == again.json()["id"]
    assert call(text, body=body).status_code == 429


def test_with_access_for_the_signed_in_only_a_key_is_enough(anna: User, settings: Any) -> None:
    settings.ACCESS = "signed-in"
    _, text = keys.make(anna, "one")
    assert Client().get(JOBS).status_code == 401
    assert call(text).status_code == 200


def test_what_serves_asks_to_sign_in_too(async_client: AsyncClient, settings: Any, anna: User) -> None:
    """The same on the event loop, where the middlewares have another half."""
    settings.ACCESS = "signed-in"
    _, text = keys.make(anna, "one")

    async def ask() -> tuple[list[Any], list[Any]]:
        plain = [await async_client.get(path) for path in (JOBS, "/", "/healthz/live")]
        shown = [await async_client.get(JOBS, headers={"Authorization": f"Bearer {key}"}) for key in (text, "x")]
        return plain, shown

    plain, shown = async_to_sync(ask)()
    assert [answer.status_code for answer in plain] == [401, 302, 200]
    assert [answer.status_code for answer in shown] == [200, 401]
    assert all("default-src 'self'" in answer["Content-Security-Policy"] for answer in plain)


def test_a_key_opens_no_page(anna: User) -> None:
    _, text = keys.make(anna, "one")
    assert call(text, "/account/").status_code == 302


@pytest.mark.parametrize(
    ("name", "limit", "words"),
    [
        ("", "", "1 to 80"),
        ("x", "0", "from 1"),
        ("x", "many", "whole"),
        ("x", "9" * 5_000, "whole"),
        ("a\0b", "", "1 to 80"),
    ],
)
def test_a_bad_key_is_refused_at_its_field(signed_in: Client, name: str, limit: str, words: str) -> None:
    answer = signed_in.post("/account/keys", {"name": name, "daily_limit": limit})
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert f'value="{limit}"' in answer.content.decode(), "what was typed stays"


def test_who_signs_in_on_the_way_to_an_action_comes_to_its_page(signed_in: Client) -> None:
    assert Client().post("/account/keys", {"name": "x"})["Location"] == "/accounts/login/?next=/account/keys"
    assert signed_in.get("/account/keys")["Location"] == "/account/"


def test_a_part_of_a_page_is_no_sign_in_page(settings: Any) -> None:
    settings.ACCESS = "signed-in"
    part = Client().post("/tasks/photos/run", headers={"HX-Request": "true"})
    assert (part.status_code, part["Content-Type"]) == (401, "text/plain; charset=utf-8")
    sent_to = Client().get("/history/?status=failed&page=2")["Location"]
    assert parse_qs(urlsplit(sent_to).query)["next"] == ["/history/?status=failed&page=2"]
    assert Client().post("/history/delete")["Location"].endswith("?next=%2F")


def test_there_are_at_most_so_many_keys(anna: User) -> None:
    for number in range(keys.MOST):
        keys.make(anna, str(number))
    with pytest.raises(InvalidInput, match="Revoke one"):
        keys.make(anna, "one more")


def test_everything_is_deleted_when_one_is_sure(
    signed_in: Client, version: ModelVersion, run_jobs: Callable[[], None]
) -> None:
    signed_in.post(f"/tasks/{TASK}/run", {"text": "A good film."})
    signed_in.post(f"/tasks/{TASK}/batch", {"lines": "one\ntwo"})
    run_jobs()
    anna = User.objects.get(username="anna")
    key = default_storage.save("uploads/x", ContentFile(b"x"))
    File.objects.create(user=anna, sha256="", size=1, key=key, media="document")
    Feedback.objects.create(user=anna, version=version, task=TASK, asked="a", ours="b")
    Remembered.objects.create(user=anna, task="translation", option="glossary", value=[["a", "b"]])
    other = Client()
    other.post(f"/tasks/{TASK}/run", {"text": "Somebody else's."})
    assert signed_in.post("/account/delete").status_code == 422
    assert Job.objects.count() == 4
    assert signed_in.post("/account/delete", {"sure": "yes"}).status_code == 302
    assert [job.summary for job in Job.objects.all()] == ["Somebody else's."]
    for model in (Job, Batch, File, Feedback, Remembered):
        assert not model.objects.filter(user=anna).exists(), model  # type: ignore[attr-defined]
    assert not default_storage.exists(key)
    assert "Everything of yours is deleted" in signed_in.get("/account/").content.decode()


def test_an_account_is_deleted_with_all_that_is_its_persons(
    signed_in: Client,
    admin_client: Client,
    version: ModelVersion,
    run_jobs: Callable[[], None],
    django_capture_on_commit_callbacks: Any,
) -> None:
    signed_in.post(f"/tasks/{TASK}/run", {"text": "A good film."})
    signed_in.post(f"/tasks/{TASK}/batch", {"lines": "one\ntwo"})
    run_jobs()
    anna = User.objects.get(username="anna")
    keys.make(anna, "one")
    path = default_storage.save("uploads/x", ContentFile(b"x"))
    File.objects.create(user=anna, sha256="", size=1, key=path, media="document")
    where = f"/admin/auth/user/{anna.pk}/delete/"
    assert "Are you sure" in admin_client.get(where).content.decode()
    with django_capture_on_commit_callbacks() as later:
        assert admin_client.post(where, {"post": "yes"}).status_code == 302
        assert default_storage.exists(path), "the deletion may still be taken back"
    for call_back in later:
        call_back()
    assert not User.objects.filter(username="anna").exists()
    assert not Job.objects.exists()
    assert not File.objects.exists()
    assert not default_storage.exists(path)


@pytest.mark.parametrize("acted", ["logged", "switched"])
def test_who_stands_in_a_list_of_the_admin_is_not_deleted(
    acted: str, anna: User, admin_client: Client, version: ModelVersion
) -> None:
    if acted == "logged":
        LogEntry.objects.create(user=anna, action_flag=ADDITION, object_repr="x")
    else:
        Activation.objects.create(version=version, by=anna)
    ben = User.objects.create_user("ben")
    where = "/admin/auth/user/"
    page = admin_client.get(f"{where}{anna.pk}/delete/").content.decode()
    assert "What anna did here" in page
    admin_client.post(f"{where}{anna.pk}/delete/", {"post": "yes"})
    chosen = {"action": "delete_selected", "_selected_action": [anna.pk, ben.pk, *range(1_000, 2_000)], "post": "yes"}
    assert admin_client.post(where, chosen).status_code != 400, "however many rows are named"
    assert User.objects.filter(username__in=["anna", "ben"]).count() == 2
    admin_client.post(where, {**chosen, "_selected_action": [ben.pk]})
    assert not User.objects.filter(username="ben").exists()


def test_the_page_is_for_the_signed_in(client: Client, db: None) -> None:
    assert client.get("/account/")["Location"].startswith("/accounts/login/")


def test_the_password_is_changed(signed_in: Client, anna: User) -> None:
    fields = {"old_password": "correct horse", "new_password1": "battery staple 9", "new_password2": "battery staple 9"}
    assert signed_in.post("/accounts/password/", fields)["Location"] == "/account/"
    anna.refresh_from_db()
    assert anna.check_password("battery staple 9")
