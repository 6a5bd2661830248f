"""A switch of versions, as people ask for it: workers get warm first, where there are any."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mlcore.errors import BundleError
from webapp.jobs import queries
from webapp.registry import services as registry
from webapp.registry.models import Activation, ModelVersion

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser


def switch(
    version: ModelVersion,
    *,
    kind: Activation.Kind = Activation.Kind.PERSON,
    by: AbstractBaseUser | None = None,
    reason: str = "",
) -> Activation | None:
    """Let a version answer once every living worker of its queue has loaded it: None, as that takes a moment.

    At once, with the record of it, where no worker lives that could. BundleError for a faulty version.
    """
    if version.fault:
        raise BundleError(f"{version} cannot be loaded: {version.fault}")
    if queries.live_workers(registry.queue_of(version.task)):
        registry.want(version, kind=kind, by=by, reason=reason)
        return None
    return registry.activate(version, kind=kind, by=by, reason=reason)


def switch_and_wait(
    version: ModelVersion, *, kind: Activation.Kind = Activation.Kind.PERSON, reason: str = "", timeout_s: float = 90.0
) -> Activation:
    """As `switch`, and wait until it is done; BundleError where workers find a fault, or take longer than that."""
    switched = switch(version, kind=kind, reason=reason)
    until = time.monotonic() + timeout_s
    while switched is None:
        version.refresh_from_db()
        if version.fault:
            raise BundleError(f"{version} cannot be loaded: {version.fault}")
        if version.status == ModelVersion.Status.ACTIVE:
            switched = Activation.objects.filter(version=version).first()
        elif time.monotonic() > until:
            raise BundleError(f"{version} does not answer after {timeout_s:.0f} s. Workers may still be loading it.")
        else:
            time.sleep(0.2)
    return switched
