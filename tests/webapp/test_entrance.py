"""Signing in and up, and what the groups may do."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.cache import cache
from django.test import Client

from webapp.playground import entrance

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


def test_a_success_clears_the_failures(client: Client, anna: User) -> None:
    for _ in range(entrance.FAILURES - 1):
        sign_in(client, "anna", "wrong")
    assert sign_in(client, "anna", "correct horse").status_code == 302
    client.logout()
    sign_in(client, "anna", "wrong")
    assert sign_in(client, "anna", "correct horse").status_code == 302


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


def test_a_viewer_sees_versions_and_switches_none(client: Client, db: None) -> None:
    for name, actions in (("viewer", False), ("operator", True)):
        person = User.objects.create_user(name, is_staff=True)
        person.groups.add(Group.objects.get(name=name))
        client.force_login(person)
        page = client.get("/admin/registry/modelversion/").content.decode()
        assert client.get("/admin/auth/user/").status_code == 403
        assert ('name="action"' in page) is actions or "0 model versions" in page
