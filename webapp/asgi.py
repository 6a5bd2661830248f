"""The ASGI application: Django behind a limit on what a request may send."""

import os

from django.core.asgi import get_asgi_application

from webapp.body_limit import BodyLimit

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")

application = BodyLimit(get_asgi_application())
