"""manage.py roll_back TASK/VARIANT: return to the version before."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from mlcore.errors import BundleError
from webapp.jobs import switching
from webapp.registry import services
from webapp.registry.models import Activation


class Command(BaseCommand):
    """Undo the last switch."""

    help = "Return to the version that answered before the active one; the switch is recorded."

    def add_arguments(self, parser: CommandParser) -> None:
        """Of what, and why."""
        parser.add_argument("name", metavar="task/variant")
        parser.add_argument("--reason", default="from the command line")

    def handle(self, *args: Any, name: str, reason: str, **options: Any) -> None:
        """Say what answers again."""
        task, _, variant = name.partition("/")
        try:
            earlier = services.before(task, variant)
            switched = switching.switch_and_wait(earlier, kind=Activation.Kind.ROLL_BACK, reason=reason)
        except BundleError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{switched.version} answers again, in place of {switched.previous}.")
