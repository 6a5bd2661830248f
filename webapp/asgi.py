"""The ASGI application: Django behind a limit on what a request may send, and told when the server ends."""

import os

from django.core.asgi import get_asgi_application

from webapp.body_limit import BodyLimit
from webapp.lifespan import Lifespan
from webapp.registry.quarantine import MAX_BYTES

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "webapp.settings")

_django = get_asgi_application()

from webapp.control.people import may_install  # noqa: E402
from webapp.playground import reset  # noqa: E402

# an archive of a bundle comes by the admin's form, with a MB for the form around it
_limited = BodyLimit(_django, exceptions={"/admin/jobs/operation/add/": (MAX_BYTES + (1 << 20), may_install)})
application = Lifespan(_limited, at_end=[reset.send_what_waits])
