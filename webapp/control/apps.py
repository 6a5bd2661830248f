"""Django's description of this app."""

from django.apps import AppConfig


class ControlConfig(AppConfig):
    """What operators do: the admin's pages of versions, jobs, workers and switches."""

    name = "webapp.control"
    label = "control"
    verbose_name = "Control"
