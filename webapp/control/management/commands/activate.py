"""manage.py activate TASK/VARIANT@N: let a version answer."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from mlcore.errors import BundleError
from webapp.jobs import switching
from webapp.registry.management.named import find_version
from webapp.registry.models import ModelVersion


class Command(BaseCommand):
    """Switch to a version."""

    help = "Let an installed version answer; the switch is recorded."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which version, and why."""
        parser.add_argument("version", help="task/variant@N")
        parser.add_argument("--reason", default="from the command line")

    def handle(self, *args: Any, version: str, reason: str, **options: Any) -> None:
        """Say what answers now."""
        found = find_version(version)
        if found.status == ModelVersion.Status.ACTIVE:
            self.stdout.write(f"{found} was active already.")
            return
        try:
            switched = switching.switch_and_wait(found, reason=reason)
        except BundleError as error:
            raise CommandError(str(error)) from error
        before = f" in place of {switched.previous}" if switched.previous else ""
        self.stdout.write(f"{found} answers now{before}.")
