"""What is wrong with this installation, in sentences that say what to do."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone
from redis import RedisError

from mlcore.bundle import Bundle
from mlcore.errors import BundleError
from webapp.jobs import events, queries
from webapp.jobs.models import Job, Status, Worker
from webapp.launch import OLDEST_REDIS
from webapp.registry import services as registry
from webapp.registry.models import ModelVersion

_CLOCK_S = 5.0  # seconds by which two clocks may differ
_WAITING = timedelta(minutes=10)


def examine() -> list[str]:
    """Everything that is wrong; empty when nothing is."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        return [f"The database does not answer ({error}). Check DATABASE_URL and whether it runs."]
    pending = MigrationExecutor(connection).migration_plan(MigrationExecutor(connection).loader.graph.leaf_nodes())
    if pending:
        return [f"{len(pending)} migrations are missing. Run: manage.py migrate"]
    return [*_redis(), *_workers(), *_bundles(), *_disk(), *_queue()]


def _redis() -> Iterator[str]:
    try:
        seconds, micros = events.connection().time()
        version = str(events.connection().info("server").get("redis_version", ""))
    except RedisError as error:
        yield f"Redis does not answer ({type(error).__name__}). Check REDIS_URL and whether it runs; jobs are kept."
        return
    if version.split(".")[0].isdecimal() and int(version.split(".")[0]) < OLDEST_REDIS:
        yield (
            f"Redis is {version}, which refuses the events of jobs: texts are not seen while they grow. Take Redis "
            f"{OLDEST_REDIS} or newer, or Valkey."
        )
    if abs(seconds + micros / 1e6 - time.time()) > _CLOCK_S:
        yield "The clock of the Redis server and of this machine differ. Set both by NTP: leases depend on them."


def _workers() -> Iterator[str]:
    for queue in settings.QUEUES:
        if not queries.live_workers(queue):
            yield f"No worker serves the queue “{queue}”. Start one: jobs sent there wait."
    for worker in Worker.objects.all():
        ahead = worker.seen_at - timezone.now()
        if ahead > timedelta(seconds=_CLOCK_S):
            yield f"The clock of worker {worker.name} is {ahead.total_seconds():.0f} s ahead of this machine's."


def _bundles() -> Iterator[str]:
    if not ModelVersion.objects.filter(status=ModelVersion.Status.ACTIVE).exists():
        yield "No model is active. Install one: manage.py sync_bundles, or manage.py install_bundle FOLDER."
    for version in ModelVersion.objects.exclude(status=ModelVersion.Status.ARCHIVED):
        try:
            Bundle.open(registry.bundle_path(version))
        except BundleError as error:
            yield f"{version} is damaged: {error} Install it again."
        else:
            if version.fault:
                yield f"{version} could not be loaded by a worker: {version.fault}"


def _disk() -> Iterator[str]:
    free = shutil.disk_usage(settings.STATE_DIR).free >> 20
    if free < settings.MIN_FREE_DISK_MB:
        yield f"The disk that holds {settings.STATE_DIR} has {free:,} MB left: uploads are refused. Make room."


def _queue() -> Iterator[str]:
    old = Job.objects.filter(status=Status.QUEUED, bulk=False, created_at__lt=timezone.now() - _WAITING).count()
    if old:
        yield f"{old} jobs have waited for more than 10 minutes. Is a worker stuck, or are there too few?"
