"""manage.py activate TASK/VARIANT@N: let a version answer."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from webapp.registry import services
from webapp.registry.management.named import find_version


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
        switched = services.activate(found, reason=reason)
        before = f" in place of {switched.previous}" if switched and switched.previous else ""
        self.stdout.write(f"{found} answers now{before}." if switched else f"{found} was active already.")
