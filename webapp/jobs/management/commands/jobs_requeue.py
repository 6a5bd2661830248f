"""manage.py jobs_requeue: run finished jobs again."""

from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser

from mlcore import task as tasks
from webapp.jobs import services
from webapp.jobs.models import TERMINAL, Job, Status


class Command(BaseCommand):
    """Requeue jobs that are over, the failed ones unless another status is named, or single ones."""

    help = "Run jobs again from the start: the failed ones of a task, or those named by their ids."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which jobs."""
        parser.add_argument("ids", nargs="*", metavar="ID")
        parser.add_argument("--task", help="only jobs of this task")
        parser.add_argument("--status", choices=[str(status) for status in TERMINAL], default=str(Status.FAILED))

    def handle(self, *args: Any, ids: list[str], task: str | None, status: str, **options: Any) -> None:
        """Say how many were queued."""
        if task and task not in tasks.names():
            raise CommandError(f"There is no task {task!r}. Known: {', '.join(tasks.names())}.")
        for wanted in ids:
            try:
                UUID(wanted)
            except ValueError as error:
                raise CommandError(f"{wanted!r} is no job's id. An id looks like {UUID(int=0)}.") from error
        rows = Job.objects.filter(pk__in=ids) if ids else Job.objects.filter(status=status)
        if task:
            rows = rows.filter(task=task)
        done = sum(services.requeue(job) for job in rows.iterator(chunk_size=500))
        self.stdout.write(f"{done} jobs are queued again.")
