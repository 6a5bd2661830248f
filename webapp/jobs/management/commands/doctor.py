"""manage.py doctor: say in sentences what is wrong."""

import sys
from typing import Any

from django.core.management.base import BaseCommand

from webapp.jobs.doctor import examine


class Command(BaseCommand):
    """Look at database, Redis, workers, bundles, disk, clocks and the queue."""

    help = "Say what is wrong with this installation; exit status 1 when something is."

    def handle(self, *args: Any, **options: Any) -> None:
        """A sentence for each fault."""
        faults = examine()
        for fault in faults:
            self.stdout.write(f"- {fault}")
        if faults:
            sys.exit(1)
        self.stdout.write("Nothing is wrong.")
