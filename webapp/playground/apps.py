"""Django's description of this app."""

from django.apps import AppConfig


class PlaygroundConfig(AppConfig):
    """Pages."""

    name = "webapp.playground"
    label = "playground"
