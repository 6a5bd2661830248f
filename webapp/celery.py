"""The Celery application. Messages are wake-ups only: the database holds what is to be done."""

import os
import warnings

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")

app = Celery("unroll")
app.config_from_object("django.conf:settings", namespace="CELERY")

# said at each start to everybody who runs in a container
warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
