"""The Django project: pages, API, jobs and the registry of model versions."""

from webapp.celery import app as celery_app

__all__ = ["celery_app"]
