"""Django's description of this app."""

from django.apps import AppConfig


class ApiConfig(AppConfig):
    """The API."""

    name = "webapp.api"
    label = "api"
