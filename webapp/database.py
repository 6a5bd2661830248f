"""The database on behalf of those whom Django's own care does not reach: who waits, and what is no request.

Django closes a request's connection when its answer ends, in that request's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import connection

P = ParamSpec("P")
T = TypeVar("T")


def let_go() -> None:
    """Close this thread's connection to a database server; one that it lost would stay lost here.

    A file gives as many as one likes, and who is within a transaction goes on.
    """
    if connection.vendor != "sqlite" and not connection.in_atomic_block:
        connection.close()


def asked(call: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """`call` in a thread, its connection to a database server closed after it.

    Django keeps one for as long as a request's answer takes: a hundred people who wait for events would hold all that
    PostgreSQL gives.
    """

    @wraps(call)
    def once(*args: P.args, **named: P.kwargs) -> T:
        try:
            return call(*args, **named)
        finally:
            let_go()

    return sync_to_async(once)
