"""What people think of answers, better ones that they propose, and options that they used last."""

from __future__ import annotations

import io
import lzma
import zipfile
from collections.abc import Iterable
from typing import Any

from django.utils import timezone

from mlcore import task as tasks
from mlcore.errors import InvalidInput
from mlcore.fields import Text
from webapp.jobs.models import Feedback, Job, Remembered, Status
from webapp.jobs.owners import Owner

_THEIRS = Text(title="Better", max_length=2_000)
MOST = 200  # proposals of one owner that wait for review


def propose(job: Job, theirs: Any, *, part: Any = None, owner: Owner) -> Feedback:
    """Store what an answer, or one part of it, should have been; InvalidInput in words."""
    number = _number(part)
    asked, ours = _answer(job, number)
    spec = tasks.get(job.task)
    text = spec.clean_better(_THEIRS.clean("theirs", theirs).strip())
    if text == ours.strip():
        raise InvalidInput("theirs", "This is the answer itself. Change what is wrong in it.")
    _refuse_too_many(owner)
    return Feedback.objects.create(
        job=job,
        task=job.task,
        version=job.version,
        part=number,
        asked=asked,
        ours=ours,
        theirs=text,
        said_with=spec.said_with(job.content.options, dict(job.content.output or {})),
        **owner.columns(),
    )


def judge(job: Job, right: Any, *, owner: Owner) -> Feedback:
    """Store whether an answer was right, "yes" or "no"; whoever judges again changes their mind. InvalidInput."""
    if right not in ("yes", "no"):
        raise InvalidInput("right", "“right” is yes or no.")
    asked, ours = _answer(job, None)
    earlier = Feedback.objects.filter(owner.query, job=job, part=None, theirs="").first()
    if earlier is None:
        _refuse_too_many(owner)
        earlier = Feedback(job=job, task=job.task, version=job.version, **owner.columns())
    earlier.asked, earlier.ours, earlier.right = asked, ours, right == "yes"
    earlier.said_with = tasks.get(job.task).said_with(job.content.options, dict(job.content.output or {}))
    earlier.save()
    return earlier


def training_files(rows: Iterable[Feedback]) -> tuple[dict[str, list[list[str]]], list[Feedback]]:
    """Lines by file as the recipes of `mlcore.training` read them in a data folder, and the rows that gave one each.

    All of it counts once an administrator accepted it: a model that was taught its own answers whenever somebody
    liked them would only grow surer. What was called wrong, with no word of what is right, teaches nothing.
    """
    found: dict[str, dict[tuple[str, ...], None]] = {}
    used: list[Feedback] = []
    for row in rows:
        answer = row.theirs or (row.ours if row.right else "")
        taught = answer and row.review == Feedback.Review.ACCEPTED
        line = tasks.get(row.task).training_row(row.asked, answer, row.said_with) if taught else None
        if line is not None and tuple(line[1]) not in found.setdefault(line[0], {}):
            found[line[0]][tuple(line[1])] = None
            used.append(row)
    return {name: [list(line) for line in lines] for name, lines in found.items()}, used


def archive(files: dict[str, list[list[str]]]) -> bytes:
    """A zip of these files, to be unpacked into a data folder."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as whole:
        for name, rows in files.items():
            lines = "".join("\t".join(cell.replace("\t", " ") for cell in row) + "\n" for row in rows)
            whole.writestr(name, lzma.compress(lines.encode()))
    return buffer.getvalue()


def _answer(job: Job, part: int | None) -> tuple[str, str]:
    if job.status != Status.SUCCEEDED:
        raise InvalidInput("job", "This has no answer yet, so there is nothing to say of it.")
    return tasks.get(job.task).part_of_answer(job.content.inputs, dict(job.content.output or {}), part)


def _refuse_too_many(owner: Owner) -> None:
    waiting = Feedback.objects.filter(owner.quota_query, review=Feedback.Review.NEW)
    if waiting.count() >= MOST:
        raise InvalidInput("theirs", f"{MOST} of your remarks wait for review. Send more when some were read.")


def _number(part: Any) -> int | None:
    if part in (None, ""):
        return None
    text = str(part)
    if not text.isdecimal() or len(text) > 6:
        raise InvalidInput("part", "“part” is the number of a part of the answer, from 0.")
    return int(text)


def remember(task: tasks.Task, options: dict[str, Any], *, owner: Owner) -> None:
    """Keep the values of options that are to be remembered."""
    if owner.is_nobody:
        return
    whose: dict[str, Any] = (
        {"user_id": owner.user_id} if owner.user_id is not None else {"user": None, "session": owner.session}
    )
    for name, spec in task.options.items():
        if spec.remember and options.get(name):
            value = {"value": options[name], "used_at": timezone.now()}
            Remembered.objects.update_or_create(task=task.name, option=name, **whose, defaults=value)
        elif spec.remember:
            Remembered.objects.filter(task=task.name, option=name, **whose).delete()


def remembered(task: tasks.Task, *, owner: Owner) -> dict[str, Any]:
    """The options that this owner used last, where they are remembered."""
    rows = Remembered.objects.filter(owner.query, task=task.name).order_by("used_at")
    return {row.option: row.value for row in rows if row.option in task.options}
