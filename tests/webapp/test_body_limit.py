"""A request that is too long is refused before it is written anywhere."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group
from django.test import Client

from webapp.body_limit import BodyLimit
from webapp.control.people import may_install


async def _reader(scope: Any, receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"read"})


def _ask(chunks: list[bytes], headers: list[tuple[bytes, bytes]], path: str = "/") -> tuple[int, int]:
    """Status of the answer and number of chunks that were taken."""
    sent, taken = _answer(chunks, headers, path)
    (status,) = [message["status"] for message in sent if message["type"] == "http.response.start"]
    return status, taken


def _answer(chunks: list[bytes], headers: list[tuple[bytes, bytes]], path: str) -> tuple[list[Any], int]:
    taken = 0
    sent: list[Any] = []

    async def receive() -> Any:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": chunks[taken - 1], "more_body": taken < len(chunks)}

    async def send(message: Any) -> None:
        sent.append(message)

    async def may(scope: Any) -> bool:
        return (b"cookie", b"known") in scope["headers"]

    limited = BodyLimit(_reader, max_bytes=100, exceptions={"/large/": (150, may)})
    asked = limited({"type": "http", "path": path, "headers": headers}, receive, send)
    with ThreadPoolExecutor(1) as thread:  # the browser tests' event loop may still run in this one
        thread.submit(asyncio.run, asked).result()
    return sent, taken


@pytest.mark.parametrize(
    ("path", "headers", "kind", "begins"),
    [
        ("/api/v1/uploads", [], b"application/json", b'{"error"'),
        ("/tasks/photos/run", [(b"hx-request", b"true")], b"text/plain", b"The request is larger"),
        ("/tasks/translation/document", [], b"text/html", b"<!doctype html>"),
    ],
)
def test_programs_scripts_and_people_are_told_in_their_own_shape(
    path: str, headers: list[tuple[bytes, bytes]], kind: bytes, begins: bytes
) -> None:
    start, body = _answer([b"x"], [*headers, (b"content-length", b"999")], path)[0]
    assert dict(start["headers"])[b"content-type"] == kind + b"; charset=utf-8"
    assert body["body"].startswith(begins)


@pytest.mark.django_db
@pytest.mark.parametrize(("group", "may"), [("operator", True), ("viewer", False), (None, False)])
def test_only_who_starts_operations_may_send_an_archive(group: str | None, may: bool, django_user_model: Any) -> None:
    client = Client()
    if group:
        person = django_user_model.objects.create_user(group, is_staff=True)
        person.groups.add(Group.objects.get(name=group))
        client.force_login(person)
    cookie = client.cookies["sessionid"].value if group else "x"
    scope = {"type": "http", "path": "/", "headers": [(b"cookie", f"sessionid={cookie}".encode())]}
    assert async_to_sync(may_install)(scope) is may


@pytest.mark.parametrize(
    ("chunks", "headers", "expected"),
    [
        ([b"x" * 60, b"x" * 40], [], (200, 2)),
        ([b"x" * 60, b"x" * 60, b"x" * 60], [], (413, 2)),
        ([b"x"], [(b"content-length", b"101")], (413, 0)),
        ([b"x"], [(b"content-length", b"many")], (200, 1)),
        ([b""], [], (200, 1)),
    ],
)
def test_the_body_is_counted(
    chunks: list[bytes], headers: list[tuple[bytes, bytes]], expected: tuple[int, int]
) -> None:
    assert _ask(chunks, headers) == expected


def test_a_path_may_take_more() -> None:
    known = [(b"cookie", b"known")]
    assert _ask([b"x" * 75, b"x" * 75], known, "/large/") == (200, 2)
    assert _ask([b"x" * 75, b"x" * 76], known, "/large/") == (413, 2)
    assert _ask([b"x"], [*known, (b"content-length", b"151")], "/large/") == (413, 0)
    assert _ask([b"x" * 75, b"x" * 75], [], "/large/") == (413, 2), "from those who may"
