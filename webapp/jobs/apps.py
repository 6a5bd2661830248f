"""Django's description of this app."""

from django.apps import AppConfig


class JobsConfig(AppConfig):
    """Jobs, batches and workers."""

    name = "webapp.jobs"
    label = "jobs"
    verbose_name = "Jobs"

    def ready(self) -> None:
        """Connect the signal that lets a signed-in person keep the session's jobs."""
        from django.contrib.auth.signals import user_logged_in

        from webapp.jobs.owners import adopt_on_sign_in

        user_logged_in.connect(adopt_on_sign_in, dispatch_uid="adopt jobs")
