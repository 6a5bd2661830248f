"""The Celery application. Messages are wake-ups only: the database holds what is to be done."""

import os
import warnings
from typing import Any

from celery import Celery
from celery.signals import setup_logging

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")

app = Celery("unroll")
app.config_from_object("django.conf:settings", namespace="CELERY")


@setup_logging.connect
def _leave_logging_alone(**_: Any) -> None:
    """Django's settings rule: Celery would set the root logger's level to its own."""


# said at each start to everybody who runs in a container
warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
