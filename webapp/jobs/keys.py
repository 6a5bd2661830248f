"""API keys: made once, shown once, stored as a digest, counted by the day."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django.db.models import F, Q
from django.utils import timezone

from mlcore.errors import InvalidInput
from webapp.jobs.models import ApiKey
from webapp.jobs.submission import QueueFull

_SHAPE = re.compile(r"unroll_([0-9a-f]{12})_([\w-]{43})")
_TOUCH = timedelta(minutes=1)  # `last_used_at` is written at most so often
MOST = 20  # living keys of one person


def make(user: Any, name: str, *, daily_limit: int | None = None) -> tuple[ApiKey, str]:
    """A new key and its text, which is never seen again; InvalidInput in words."""
    name = name.strip()
    if not name or len(name) > 80 or "\0" in name:
        raise InvalidInput("name", "Say in 1 to 80 characters what the key is for.")
    if daily_limit is not None and not 1 <= daily_limit <= 1_000_000:
        raise InvalidInput("daily_limit", "A daily limit is from 1 to 1,000,000 jobs; leave it empty for none.")
    if ApiKey.objects.filter(user=user, revoked_at=None).count() >= MOST:
        raise InvalidInput("name", f"You have {MOST} keys. Revoke one that is not used any more.")
    prefix, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    key = ApiKey.objects.create(user=user, name=name, prefix=prefix, digest=_digest(secret), daily_limit=daily_limit)
    return key, f"unroll_{prefix}_{secret}"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()  # 256 random bits need no slow hash


def find(text: str) -> ApiKey | None:
    """The living key of this text, with its user; None for any other text."""
    matched = _SHAPE.fullmatch(text.strip())
    if matched is None:
        return None
    key = ApiKey.objects.select_related("user").filter(prefix=matched[1], revoked_at=None).first()
    if key is None or not secrets.compare_digest(key.digest, _digest(matched[2])) or not key.user.is_active:
        return None
    now = timezone.now()
    if key.last_used_at is None or now - key.last_used_at > _TOUCH:
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)
    return key


def revoke(key: ApiKey) -> bool:
    """End a key, its row stays for the record; False when it was over already."""
    ended = ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())
    return bool(ended)


def used_today(key: ApiKey) -> int:
    """Jobs that a key made today (UTC)."""
    return key.used_today if key.used_on == timezone.now().date() else 0


def resets_at() -> datetime:
    """When the day ends."""
    return datetime.combine(timezone.now().date() + timedelta(days=1), time(), tzinfo=UTC)


def spend(key: ApiKey, jobs: int) -> None:
    """Count jobs against a key's day; QueueFull when it has not so many left."""
    today = timezone.now().date()
    ApiKey.objects.filter(pk=key.pk).exclude(used_on=today).update(used_on=today, used_today=0)
    ApiKey.objects.filter(pk=key.pk, used_on=None).update(used_on=today, used_today=0)
    rows = ApiKey.objects.filter(pk=key.pk, used_on=today)
    if rows.filter(Q(daily_limit=None) | Q(daily_limit__gte=F("used_today") + jobs)).update(
        used_today=F("used_today") + jobs
    ):
        return
    key.refresh_from_db()
    left = max(0, (key.daily_limit or 0) - key.used_today)
    wait = int((resets_at() - timezone.now()).total_seconds()) + 1
    raise QueueFull(
        f"This key may make {key.daily_limit:,} jobs a day and has {left:,} left; this request needs {jobs:,}.", wait
    )
