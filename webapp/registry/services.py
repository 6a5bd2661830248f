"""What may be done to model versions: install, activate, roll back, retire, mark as faulty."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.db.models import ProtectedError, QuerySet
from django.utils import timezone

from mlcore import bundle as bundles
from mlcore import task
from mlcore.bundle import Bundle
from mlcore.errors import BundleError, InvalidInput, MLCoreError
from webapp.registry.models import Activation, ModelVersion, TaskSetting

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

logger = logging.getLogger(__name__)
Status = ModelVersion.Status


class ModelUnavailable(MLCoreError):
    """No version can answer; the message is for people."""


def bundle_path(version: ModelVersion) -> Path:
    """Where a version's files lie: its own copy, which no `git pull` changes."""
    return Path(settings.BUNDLE_ROOT) / version.digest


def active(task_name: str, variant: str) -> ModelVersion:
    """The version that answers; InvalidInput for an unknown variant, ModelUnavailable where none can."""
    # databases take neither NULs nor halves of characters in a question
    variant = variant.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    if not setting(task_name).enabled:
        title = task.get(task_name).title
        raise ModelUnavailable(f"{title} is switched off. Ask the operator when it will be back.")
    versions = ModelVersion.objects.filter(task=task_name)
    found = versions.filter(variant=variant, status=Status.ACTIVE).first()
    if found is None:
        known = sorted(set(versions.values_list("variant", flat=True)))
        if known and variant not in known:
            raise InvalidInput("variant", f"There is no variant {variant[:60]!r}. Known: {', '.join(known)}.")
        raise ModelUnavailable(f"No model is installed for {task_name}. Ask the operator to install one.")
    if found.fault:
        raise ModelUnavailable(f"The model {found} is unavailable: it cannot be loaded. Ask the operator to repair it.")
    return found


def setting(task_name: str) -> TaskSetting:
    """What an operator decided about a task, or the defaults."""
    return TaskSetting.objects.filter(task=task_name).first() or TaskSetting(task=task_name)


def queue_of(task_name: str) -> str:
    """The queue whose workers hold a task's models."""
    return setting(task_name).queue or task.get(task_name).queue


def idle_minutes() -> dict[str, int]:
    """After how many minutes unused a task's models are unloaded; tasks whose models stay are left out."""
    return dict(TaskSetting.objects.filter(idle_minutes__gt=0).values_list("task", "idle_minutes"))


def install(source: Path, *, shipped: bool = False) -> ModelVersion:
    """Check a bundle, copy it to BUNDLE_ROOT/<digest> and write its row, STAGED; installing twice changes nothing."""
    found = Bundle.open(source)
    found.check_header()
    task.get(found.task)
    described = _described(found)
    target = Path(settings.BUNDLE_ROOT) / found.digest
    if not _is_whole(target):
        _copy(source, target)
    version, created = ModelVersion.objects.get_or_create(
        digest=found.digest,
        defaults={**described, "shipped": shipped},
    )
    if version.fault:
        clear_fault(version)
    if created:
        logger.info("installed %s", version)
    return version


def _described(found: Bundle) -> dict[str, Any]:
    """The columns that a bundle fills; BundleError where they cannot be read or stored."""
    try:
        metrics, card = found.metrics, found.card
    except (ValueError, TypeError, RecursionError) as error:
        raise BundleError(f"{found.label}: its metrics.json or card.md cannot be read ({error}).") from error
    names = {"task": found.task, "variant": found.variant, "architecture": str(found.manifest["model"])}
    for column, name in names.items():
        longest = int(ModelVersion._meta.get_field(column).max_length)  # type: ignore[union-attr, arg-type]
        if len(name) > longest or "\0" in name + card:
            raise BundleError(f"The {column} of a bundle is text of at most {longest} characters.")
    return {
        **names,
        "version": found.version,
        "metrics": {name: value for name, value in metrics.items() if name != "evaluated_here"},  # that is told by us
        "card": card,
        "licence": str(found.manifest["licence"]),
        "size": found.size,
    }


def uninstall(version: ModelVersion) -> bool:
    """Remove a staged version that never answered, with its files; False for any other."""
    if version.status != Status.STAGED or version.shipped or version.activations.exists():
        return False
    path = bundle_path(version)
    version.delete()
    shutil.rmtree(path, ignore_errors=True)
    logger.info("uninstalled %s", version)
    return True


def _is_whole(path: Path) -> bool:
    try:
        Bundle.open(path)
    except BundleError:
        return False
    return True


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial)
    Bundle.open(partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def activate(
    version: ModelVersion,
    *,
    kind: Activation.Kind = Activation.Kind.PERSON,
    by: AbstractBaseUser | None = None,
    reason: str = "",
) -> Activation | None:
    """Make a version the one that answers, and record the switch; None when it already is."""
    with transaction.atomic():
        siblings = ModelVersion.objects.filter(task=version.task, variant=version.variant)
        # all of them: who waits for the active row alone finds it archived, and no other active one, once it comes
        rows = list(siblings.select_for_update().order_by("pk"))
        previous = next((row for row in rows if row.status == Status.ACTIVE), None)
        if previous and previous.pk == version.pk:
            siblings.filter(pk=version.pk).update(wanted_at=None)  # a wish that came just after it was fulfilled
            return None
        siblings.filter(status=Status.ACTIVE).update(status=Status.ARCHIVED)
        siblings.update(wanted_at=None)
        siblings.filter(pk=version.pk).update(status=Status.ACTIVE, retired_at=None)
        version.status = Status.ACTIVE
        return Activation.objects.create(
            version=version,
            previous=previous,
            kind=kind,
            by=by,
            reason=reason,  # type: ignore[misc]
            metrics=version.metrics,
        )


def before(task_name: str, variant: str) -> ModelVersion:
    """The version that answered before the active one; BundleError where there was none."""
    last = Activation.objects.filter(
        version__task=task_name, version__variant=variant, version__status=Status.ACTIVE
    ).first()
    if last is None or last.previous is None:
        raise BundleError(f"{task_name}/{variant} has no earlier version to go back to.")
    return last.previous


def want(
    version: ModelVersion,
    *,
    kind: Activation.Kind = Activation.Kind.PERSON,
    by: AbstractBaseUser | None = None,
    reason: str = "",
) -> None:
    """Ask for a switch: workers load and warm the version first, then `settle` makes it the one that answers.

    A later wish for the same task and variant takes the place of an earlier one. BundleError for a faulty version.
    """
    if version.fault:
        raise BundleError(f"{version} cannot be loaded: {version.fault}")
    with transaction.atomic():
        ModelVersion.objects.filter(task=version.task, variant=version.variant).update(wanted_at=None)
        ModelVersion.objects.filter(pk=version.pk).update(
            wanted_at=timezone.now(), wanted_kind=kind, wanted_by=by, wanted_reason=reason, retired_at=None
        )


def wanted() -> QuerySet[ModelVersion]:
    """Versions whose switch waits for warm workers."""
    return ModelVersion.objects.filter(wanted_at__isnull=False).select_related("wanted_by")


def settle(version: ModelVersion) -> Activation | None:
    """The switch that was wished for, once: whoever finds all workers warm may call this."""
    with transaction.atomic():
        row = wanted().select_for_update(of=("self",)).filter(pk=version.pk).first()
        if row is None:
            return None
        return activate(row, kind=Activation.Kind(row.wanted_kind), by=row.wanted_by, reason=row.wanted_reason)


def retire(version: ModelVersion) -> None:
    """Have workers unload a version that does not answer; BundleError for the one that does."""
    retired = ModelVersion.objects.filter(pk=version.pk, wanted_at=None).exclude(status=Status.ACTIVE)
    if not retired.update(retired_at=timezone.now(), status=Status.ARCHIVED):
        raise BundleError(f"{version} answers, or soon will. Activate another version first, or switch its task off.")


def delete(version: ModelVersion) -> None:
    """Delete a version with its files; BundleError for one that ever answered."""
    if version.status == Status.ACTIVE or version.shipped:
        raise BundleError(f"{version} {'came with the project' if version.shipped else 'answers'}: it stays.")
    path = bundle_path(version)
    try:
        version.delete()
    except ProtectedError as error:
        raise BundleError(f"{version} cannot be deleted: jobs, feedback or the record of switches name it.") from error
    shutil.rmtree(path, ignore_errors=True)
    logger.info("deleted %s", version)


def sync_shipped(root: Path | None = None) -> list[str]:
    """Install the bundles that come with the project; returns what is wrong, one sentence each.

    A first version becomes active. A newer one takes over by itself from an active shipped one, unless a
    person made the last switch: then it waits, staged.
    """
    faults: list[str] = []
    folders = [path.parent for path in sorted((root or bundles.shipped_root()).glob("*/*/config.json"))]
    for folder in folders:
        try:
            version = install(folder, shipped=True)
        except MLCoreError as error:
            faults.append(str(error))
            logger.error("not installed: %s", error)
            continue
        _take_over(version)
    return faults


def _take_over(version: ModelVersion) -> None:
    siblings = ModelVersion.objects.filter(task=version.task, variant=version.variant)
    current = siblings.filter(status=Status.ACTIVE).first()
    if current is None:
        activate(version, kind=Activation.Kind.FIRST)
        return
    last = Activation.objects.filter(version=current).first()
    by_person = last is not None and last.kind in (Activation.Kind.PERSON, Activation.Kind.ROLL_BACK)
    if version.status == Status.STAGED and current.shipped and not by_person and current.pk != version.pk:
        activate(version, kind=Activation.Kind.UPGRADE, reason=f"came with the project after {current}")


def mark_faulty(version: ModelVersion, reason: str) -> None:
    """A worker could not load it: submits are refused in words until it is repaired."""
    logger.error("%s cannot be loaded: %s", version, reason)
    ModelVersion.objects.filter(pk=version.pk).update(fault=reason[:2000])


def clear_fault(version: ModelVersion) -> None:
    """The files are whole again."""
    ModelVersion.objects.filter(pk=version.pk).update(fault="")


def installed_tasks() -> list[task.Task]:
    """Tasks of which some version was installed, in the catalogue's order: what this server is for."""
    known = set(ModelVersion.objects.order_by().values_list("task", flat=True).distinct())
    return [task.get(name) for name in task.names() if name in known]
