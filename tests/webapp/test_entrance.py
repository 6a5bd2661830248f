"""Signing in and up, and what the groups may do."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.forms import UserCreationForm
from django.contrib.auth.models import Group, User
from django.core.cache import cache
from django.test import Client

from webapp.playground import entrance, reset

LOGIN = "/accounts/login/"


@pytest.fixture(autouse=True)
def _fresh_cache() -> None:
    cache.clear()


@pytest.fixture
def anna(db: None) -> User:
    return User.objects.create_user("anna", password="correct horse")


def sign_in(client: Client, name: str, password: str, **extra: Any) -> Any:
    return client.post(LOGIN, {"username": name, "password": password}, **extra)


def test_after_ten_failures_even_the_right_password_waits(client: Client, anna: User) -> None:
    for _ in range(entrance.FAILURES):
        assert "Too many" not in sign_in(client, "anna", "wrong").content.decode()
    assert "Too many failures" in sign_in(client, "ANNA", "correct horse").content.decode()
    assert sign_in(client, "anna", "correct horse", REMOTE_ADDR="10.0.0.9").status_code == 302
    for name in ("nobody", "nobody"):
        sign_in(client, name, "x")
    cache.clear()
    assert sign_in(client, "anna", "correct horse").status_code == 302


def test_failures_of_many_names_from_one_address_wait_too(client: Client, anna: User) -> None:
    cache.set("sign-in:127.0.0.1", entrance.FAILURES_FROM_ONE - 1)
    assert "Too many" not in sign_in(client, "somebody", "x").content.decode()
    assert "Too many" in sign_in(client, "anna", "correct horse").content.decode()
    assert sign_in(client, "anna", "correct horse", REMOTE_ADDR="10.0.0.9").status_code == 302


def test_a_success_clears_the_failures(client: Client, anna: User) -> None:
    for _ in range(entrance.FAILURES - 1):
        sign_in(client, "anna", "wrong")
    assert sign_in(client, "anna", "correct horse").status_code == 302
    client.logout()
    sign_in(client, "anna", "wrong")
    assert sign_in(client, "anna", "correct horse").status_code == 302


def test_an_empty_password_clears_no_failures(client: Client, anna: User) -> None:
    for _ in range(entrance.FAILURES):
        sign_in(client, "anna", "wrong")
        sign_in(client, "anna", "")
    assert "Too many failures" in sign_in(client, "anna", "correct horse").content.decode()


def test_a_name_that_is_taken_at_the_same_moment_is_said(
    client: Client, db: None, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"username": "ben", "password1": "battery staple 9", "password2": "battery staple 9"}
    settings.SIGN_UP = True
    save = UserCreationForm.save

    def another_comes_first(form: Any, commit: bool = True) -> Any:
        User.objects.create_user("ben")
        return save(form, commit=commit)

    monkeypatch.setattr(UserCreationForm, "save", another_comes_first)
    answer = client.post("/accounts/sign-up/", fields)
    assert answer.status_code == 200
    assert "This name is taken." in answer.content.decode()
    assert User.objects.count() == 1


def test_signing_up_is_off_until_the_operator_says_so(client: Client, db: None, settings: Any) -> None:
    fields = {"username": "ben", "password1": "battery staple 9", "password2": "battery staple 9"}
    assert client.post("/accounts/sign-up/", fields).status_code == 404
    assert "Make an account" not in client.get(LOGIN).content.decode()
    settings.SIGN_UP = True
    assert "Make an account" in client.get(LOGIN).content.decode()
    assert client.post("/accounts/sign-up/", fields)["Location"] == "/"
    ben = User.objects.get()
    assert (ben.username, ben.is_staff) == ("ben", False)
    assert "ben" in client.get("/account/").content.decode()
    taken = client.post("/accounts/sign-up/", fields)
    assert "already exists" in taken.content.decode()


def test_groups_hold_what_they_should(db: None) -> None:
    held = {group.name: set(group.permissions.values_list("codename", flat=True)) for group in Group.objects.all()}
    assert set(held) == {"viewer", "operator", "administrator"}
    assert all(codename.startswith("view_") for codename in held["viewer"])
    assert "change_modelversion" in held["operator"] - held["viewer"]
    assert "delete_user" in held["administrator"] - held["operator"]


def test_a_viewer_and_an_operator_see_versions_and_no_accounts(client: Client, db: None) -> None:
    for name in ("viewer", "operator"):
        person = User.objects.create_user(name, is_staff=True)
        person.groups.add(Group.objects.get(name=name))
        client.force_login(person)
        assert client.get("/admin/registry/modelversion/").status_code == 200
        assert client.get("/admin/admin/logentry/").status_code == 200
        assert client.get("/admin/auth/user/").status_code == 403


def test_a_forgotten_password_is_set_by_mail_where_there_is_a_server(
    client: Client, anna: User, settings: Any, mailoutbox: list[Any]
) -> None:
    assert client.get("/accounts/reset/").status_code == 404
    assert "administrator" in client.get(LOGIN).content.decode()
    settings.EMAIL_HOST = "mail.example.org"
    assert "/accounts/reset/" in client.get(LOGIN).content.decode()
    User.objects.update(email="anna@example.org")
    same = [
        client.post("/accounts/reset/", {"email": to}, follow=True) for to in ("no@example.org", "anna@example.org")
    ]
    assert all("If an account has this address" in page.content.decode() for page in same)
    reset._mailer.submit(str).result()  # mails go behind the answer's back
    (mail,) = mailoutbox
    assert mail.to == ["anna@example.org"]
    place = re.findall(r"http://testserver(/accounts/reset/\S+)", mail.body)[0]
    page = client.get(place, follow=True)
    form = {"new_password1": "battery staple 9", "new_password2": "battery staple 9"}
    assert client.post(page.request["PATH_INFO"], form)["Location"] == LOGIN
    assert sign_in(client, "anna", "battery staple 9").status_code == 302
    assert "This link is used up" in Client().get(place, follow=True).content.decode()
    for _ in range(reset.MAILS):
        client.post("/accounts/reset/", {"email": "anna@example.org"})
    assert "Too many mails" in client.post("/accounts/reset/", {"email": "anna@example.org"}).content.decode()
    reset._mailer.submit(str).result()
    assert len(mailoutbox) <= reset.MAILS


def test_whoever_changes_the_address_shows_the_password(client: Client, anna: User, settings: Any) -> None:
    settings.EMAIL_HOST = "mail.example.org"
    client.force_login(anna)
    for fields, words in (
        ({"email": "a@example.org", "password": "wrong"}, "not your password"),
        ({"email": "nonsense", "password": "correct horse"}, "no e-mail address"),
        ({"email": "a@example.org", "password": "correct horse"}, "go to a@example.org"),
    ):
        assert words in client.post("/account/email", fields, follow=True).content.decode()
    anna.refresh_from_db()
    assert anna.email == "a@example.org"


def test_the_admin_has_no_door_of_its_own(client: Client, db: None) -> None:
    answer = client.get("/admin/", follow=True)
    assert answer.redirect_chain[-1][0] in ("/accounts/login/?next=/admin/", "/accounts/login/?next=%2Fadmin%2F")
