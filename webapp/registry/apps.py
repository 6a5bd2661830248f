"""Django's description of this app."""

from django.apps import AppConfig


class RegistryConfig(AppConfig):
    """Model versions and the history of their activation."""

    name = "webapp.registry"
    label = "registry"
    verbose_name = "Models"
