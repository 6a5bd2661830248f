"""Whose a job is, and the signed tokens that open a job nobody owns."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core import signing
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone

from webapp.jobs.models import Batch, Feedback, File, Job, Remembered

_SESSION_KEY = "owner"
_SEEN_KEY = "seen"  # the day, as a number, on which the session was last made to last
_SALT = "unroll.token"


@dataclass(frozen=True)
class Owner:
    """An account, a browser session, or neither; `client` is the address the request came from."""

    user_id: int | None = None
    session: str = ""
    client: str = ""

    @property
    def is_nobody(self) -> bool:
        """A caller with neither account nor session."""
        return self.user_id is None and not self.session

    @property
    def query(self) -> Q:
        """Rows of this owner; nobody owns nothing."""
        if self.user_id is not None:
            return Q(user_id=self.user_id)
        return Q(session=self.session, user=None) if self.session else Q(pk__in=[])

    @property
    def quota_query(self) -> Q:
        """Rows that count against this owner's share of the queue: without an owner, those of the address."""
        return Q(client=self.client, session="", user=None) if self.is_nobody else self.query

    @property
    def name(self) -> str:
        """A stable name, for keys of idempotent requests."""
        return f"user:{self.user_id}" if self.user_id is not None else f"session:{self.session}"

    @property
    def sender(self) -> str:
        """Whose day of jobs it is: without an owner the address's."""
        return f"client:{self.client}" if self.is_nobody else self.name

    def columns(self) -> dict[str, Any]:
        """What a new row stores."""
        return {"user_id": self.user_id, "session": self.session, "client": self.client if self.is_nobody else ""}


def client_address(request: HttpRequest) -> str:
    """The peer's address; behind a proxy the server resolves it before Django sees it."""
    return str(request.META.get("REMOTE_ADDR", ""))[:64]


def owner_of(request: HttpRequest) -> Owner:
    """Who is asking; never starts a session."""
    client = client_address(request)
    if request.user.is_authenticated:
        return Owner(user_id=request.user.pk, client=client)
    return Owner(session=request.session.get(_SESSION_KEY, ""), client=client)


def owner_who_reads(request: HttpRequest) -> Owner:
    """Who is asking for a page. Once a day the session is stored anew, with its cookie: who comes back stays known."""
    found, today = owner_of(request), timezone.now().toordinal()
    if not found.is_nobody and request.session.get(_SEEN_KEY) != today:
        request.session[_SEEN_KEY] = today
    return found


def owner_for_page(request: HttpRequest) -> Owner:
    """Who is sending something from a page: a visitor without a session gets one."""
    if owner_of(request).is_nobody:
        request.session[_SESSION_KEY] = uuid.uuid4().hex
    return owner_who_reads(request)


def adopt_on_sign_in(*, request: HttpRequest, user: Any, **_: Any) -> None:
    """Signing in takes along what the browser's session owned."""
    session = request.session.get(_SESSION_KEY, "") if hasattr(request, "session") else ""
    if session:
        # what the account remembers already goes before what the session does
        known = Remembered.objects.filter(user=user).values_list("task", "option")
        for task, option in known:
            Remembered.objects.filter(session=session, user=None, task=task, option=option).delete()
        for model in (Job, Batch, File, Feedback, Remembered):
            model._default_manager.filter(session=session, user=None).update(user=user)


def make_token(pk: uuid.UUID) -> str:
    """A signed token that opens one row, as long as it is kept."""
    return signing.dumps(pk.hex, salt=_SALT, compress=False)


def token_opens(token: str, pk: uuid.UUID) -> bool:
    """Whether `token` was made for this row, not longer ago than rows are kept."""
    try:
        found = signing.loads(token, salt=_SALT, max_age=settings.RETENTION_DAYS * 86_400)
    except signing.BadSignature:
        return False
    return bool(found == pk.hex)


def may_open(request: HttpRequest, row: Job | Batch) -> bool:
    """Whether the one who asks may read and change a row: its owner, or the bearer of its token."""
    owner = owner_of(request)
    if owner.user_id is not None and row.user_id == owner.user_id:
        return True
    if owner.session and row.user_id is None and row.session == owner.session:
        return True
    if row.user_id is not None or row.session:
        return False
    token = request.GET.get("token", "")
    return token_opens(token, row.pk) or (
        isinstance(row, Job) and row.batch_id is not None and token_opens(token, row.batch_id)
    )
