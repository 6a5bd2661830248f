"""The ASGI application: Django behind a limit on what a request may send."""

import os

from django.core.asgi import get_asgi_application

from webapp.body_limit import BodyLimit
from webapp.registry.quarantine import MAX_BYTES

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")

_django = get_asgi_application()
# an archive of a bundle comes by the admin's form, with a MB for the form around it
application = BodyLimit(_django, exceptions={"/admin/jobs/operation/add/": MAX_BYTES + (1 << 20)})
