"""manage.py install_bundle FOLDER: check a bundle and install it, staged."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from mlcore.errors import MLCoreError
from webapp.registry import services


class Command(BaseCommand):
    """Install one bundle from a folder."""

    help = "Check a bundle (digests, header, task) and install it; it is staged until it is activated."

    def add_arguments(self, parser: CommandParser) -> None:
        """The folder."""
        parser.add_argument("folder", type=Path)

    def handle(self, *args: Any, folder: Path, **options: Any) -> None:
        """Say what was installed, or what is wrong with it."""
        if not folder.is_dir():
            raise CommandError(f"{folder} is no folder. A bundle is a folder with a config.json.")
        try:
            version = services.install(folder)
        except MLCoreError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"{version} is installed ({version.status}). Let it answer with: manage.py activate {version}"
        )
