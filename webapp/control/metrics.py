"""/metrics for Prometheus, out of the rows that workers keep of themselves; off until it is asked for.

Labels name tasks, outcomes, versions, queues and workers: no addresses, no keys, nothing of what people sent.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from django.conf import settings
from django.db.models import Count, Min, Sum
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from webapp.jobs import journal, queries, stats
from webapp.jobs.models import File, Job, Queue, Status, Worker
from webapp.jobs.owners import client_address
from webapp.registry.models import ModelVersion


class _Product(Collector):
    """What is true now; asked anew at each scrape."""

    def collect(self) -> Iterator[Metric]:
        workers = queries.live_workers()
        yield from _work(workers)
        yield from _queues()
        memory = GaugeMetricFamily("unroll_worker_memory_bytes", "Resident memory of a worker", labels=["worker"])
        loaded = GaugeMetricFamily("unroll_version_loaded", "1 for a version in memory", labels=["worker", "version"])
        for worker in workers:
            memory.add_metric([worker.name], worker.memory_mb * 2**20)
            for version in worker.loaded:
                loaded.add_metric([worker.name, version], 1)
        active = GaugeMetricFamily("unroll_version_active", "1 for a version that answers", labels=["version"])
        for row in ModelVersion.objects.filter(status=ModelVersion.Status.ACTIVE):
            active.add_metric([str(row)], 1)
        uploads = File.objects.aggregate(size=Sum("size"))["size"] or 0
        yield from (memory, loaded, active)
        yield GaugeMetricFamily("unroll_uploads_bytes", "Bytes of files that people sent and jobs made", value=uploads)


def _work(workers: Sequence[Worker]) -> Iterator[Metric]:
    by = ["worker", "task"]
    jobs = CounterMetricFamily("unroll_jobs", "Jobs that ended, by how", labels=[*by, "outcome"])
    wait = HistogramMetricFamily("unroll_job_wait_seconds", "From submit to start", labels=by)
    run = HistogramMetricFamily("unroll_job_run_seconds", "From start to end", labels=by)
    rows = HistogramMetricFamily("unroll_batch_rows", "Jobs that shared a model's step", labels=by)
    for worker in workers:
        for task, found in worker.stats.items():
            for outcome, number in found["outcomes"].items():
                jobs.add_metric([worker.name, task, outcome], number)
            for family, name, bounds in (
                (wait, "wait", stats.SECONDS),
                (run, "run", stats.SECONDS),
                (rows, "rows", stats.ROWS),
            ):
                family.add_metric([worker.name, task], _cumulated(found[name], bounds), found[name]["sum"])
    for (task, outcome), number in journal.counted().items():  # in no worker's hands
        jobs.add_metric(["", task, outcome], number)
    yield from (jobs, wait, run, rows)


def _cumulated(histogram: dict[str, Any], bounds: Sequence[float]) -> list[tuple[str, float]]:
    names = [*map(str, bounds), "+Inf"]
    return list(zip(names, accumulate(histogram["counts"]), strict=True))


def _queues() -> Iterator[Metric]:
    now = timezone.now()
    waiting = GaugeMetricFamily("unroll_queue_waiting", "Jobs that wait", labels=["queue"])
    oldest = GaugeMetricFamily("unroll_queue_oldest_seconds", "How long the oldest of them waits", labels=["queue"])
    paused = GaugeMetricFamily("unroll_queue_paused", "1 for a queue that an operator paused", labels=["queue"])
    rows = Job.objects.filter(status=Status.QUEUED).values("queue").annotate(n=Count("pk"), first=Min("created_at"))
    found = {row["queue"]: row for row in rows.order_by()}
    held = set(Queue.objects.filter(paused=True).values_list("name", flat=True))
    for name in dict.fromkeys([*settings.QUEUES, *found]):
        row = found.get(name)
        waiting.add_metric([name], row["n"] if row else 0)
        oldest.add_metric([name], (now - row["first"]).total_seconds() if row else 0)
        paused.add_metric([name], name in held)
    yield from (waiting, oldest, paused)


def page(request: HttpRequest) -> HttpResponse:
    """The figures in Prometheus's text format; 404 while nobody is allowed, 403 to those who are not."""
    if not settings.METRICS_TOKEN and not settings.METRICS_ALLOW:
        return _said("Metrics are off. METRICS_TOKEN or METRICS_ALLOW in the environment turns them on.", 404)
    if not _allowed(request):
        return _said("Send the token: “Authorization: Bearer TOKEN”; or ask from an address in METRICS_ALLOW.", 403)
    registry = CollectorRegistry()
    registry.register(_Product())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _said(sentence: str, status: int) -> HttpResponse:
    return HttpResponse(f"{sentence}\n", status=status, content_type="text/plain; charset=utf-8")


def _allowed(request: HttpRequest) -> bool:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if settings.METRICS_TOKEN and scheme.lower() == "bearer":
        return hmac.compare_digest(token.strip().encode(), settings.METRICS_TOKEN.encode())
    try:
        address = ipaddress.ip_address(client_address(request))
    except ValueError:
        return False
    return any(address in network for network in settings.METRICS_ALLOW)
