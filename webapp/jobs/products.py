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


def keep(output: JSON, *, job: Job, made: list[str]) -> JSON:
    """The output with the files that it holds stored as the job's, their ids in their places.

    Call it inside a transaction that has made sure of the job; `made` gets the files' keys in the storage, to be
    discarded where the transaction fails.
    """

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: kept(entry) for name, entry in value.items()}
        if not isinstance(value, Product):
            return value
        made.append(f"products/{uuid.uuid4().hex}")
        key = made[-1] = default_storage.save(made[-1], ContentFile(value.data))
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

    return {name: kept(value) for name, value in output.items()}


def discard(made: list[str]) -> None:
    """Delete files that no row names."""
    for key in made:
        default_storage.delete(key)


def held_in(output: JSON) -> bool:
    """Whether there is a file in an output."""
    return any(isinstance(value, Product) or (isinstance(value, dict) and held_in(value)) for value in output.values())
