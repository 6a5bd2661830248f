"""Django's description of this app."""

from django.apps import AppConfig


class JobsConfig(AppConfig):
    """Jobs, batches and workers."""

    name = "webapp.jobs"
    label = "jobs"
    verbose_name = "Jobs"

    def ready(self) -> None:
        """Let a signed-in person keep the session's jobs; make the groups once all permissions are there."""
        from django.contrib.auth.signals import user_logged_in
        from django.db.models.signals import post_migrate

        from webapp.jobs.groups import make_groups
        from webapp.jobs.owners import adopt_on_sign_in

        # sent for each app in order: behind the last of ours every permission exists
        post_migrate.connect(make_groups, sender=self, dispatch_uid="make groups")

        user_logged_in.connect(adopt_on_sign_in, dispatch_uid="adopt jobs")
