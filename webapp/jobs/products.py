"""Files that answers hold: stored as their job's own."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from mlcore.task import JSON, Product
from webapp.jobs.files import public_id
from webapp.jobs.intake import plain_name
from webapp.jobs.models import File, Job


def keep(output: JSON, *, job: Job) -> JSON:
    """The output with the files that it holds stored as the job's, their ids in their places.

    Call it inside a transaction that has made sure of the job. Where a file cannot be stored, the bytes of the others
    go again.
    """
    made: list[str] = []

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: kept(entry) for name, entry in value.items()}
        if not isinstance(value, Product):
            return value
        key = default_storage.save(f"products/{uuid.uuid4().hex}", ContentFile(value.data))
        made.append(key)
        file = File.objects.create(
            kind=File.Kind.OUTPUT,
            sha256=hashlib.sha256(value.data).hexdigest(),
            size=len(value.data),
            key=key,
            media="document",
            name=plain_name(value.name),
            user_id=job.user_id,
            session=job.session,
            client=job.client,
        )
        job.files.add(file)
        return public_id(file)

    try:
        return {name: kept(value) for name, value in output.items()}
    except Exception:
        for key in made:
            default_storage.delete(key)
        raise


def held_in(output: JSON) -> bool:
    """Whether there is a file in an output."""
    return any(isinstance(value, Product) or (isinstance(value, dict) and held_in(value)) for value in output.values())
