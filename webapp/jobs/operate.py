"""How operations run: a generator that yields progress between steps and returns the result."""

from __future__ import annotations

import csv
import json
import logging
import statistics
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from django.db import InterfaceError, OperationalError
from django.db.models import Q

from mlcore import task as tasks
from mlcore.errors import NEUTRAL, BundleError, InvalidInput
from webapp.jobs import files, operations
from webapp.jobs.heartbeat import Heartbeat
from webapp.jobs.models import Job, Operation, Status
from webapp.registry.models import ModelVersion

if TYPE_CHECKING:
    from mlcore.predictor import Predictor
    from webapp.jobs.loaded import Loaded

logger = logging.getLogger(__name__)
Steps = Generator[tuple[int, int], None, dict[str, Any]]
_WINDOW = 16  # requests that are answered together
_LOOK_S = 1.0  # a cancel takes effect behind the step that ends after so long
_SHOWN = 50  # differences that are listed
MOST_ROWS = 20_000


@dataclass(frozen=True)
class Row:
    """A request, and what is known of its answer."""

    inputs: dict[str, Any]
    options: dict[str, Any] | None = None
    expected: Any = None
    answered: str | None = None  # the headline that people got
    seconds: float | None = None


@dataclass(frozen=True)
class Answer:
    """What a version made of a row."""

    headline: str
    scored: Any  # what its task's `scores` takes; the whole answer would fill the memory with thousands of them
    error: str  # empty where it was answered
    seconds: float


def to_its_end(operation: Operation, loaded: Loaded, heartbeat: Heartbeat, *, is_stopping: Callable[[], bool]) -> None:
    """Work on a claimed operation until it is done, has failed or was cancelled, or the worker is told to stop."""
    token = operation.lease_token
    assert token is not None
    heartbeat.tokens.add(token)
    try:
        steps = run(operation, loaded)
        while not is_stopping():
            heartbeat.begin_step()
            try:
                done, total = next(steps)
            except StopIteration as end:
                operations.succeed(operation, end.value)
                return
            if not operations.note_progress(operation, done=done, total=total):
                return  # cancelled
        operations.give_back(operation)
    except (InvalidInput, BundleError) as error:
        operations.fail(operation, str(error), faulty=isinstance(error, BundleError))
    except (OperationalError, InterfaceError):
        raise  # the database is away or locked: the operation is begun again
    except Exception:
        logger.exception("operation %s failed", operation.pk)
        operations.fail(operation, NEUTRAL)
    finally:
        heartbeat.end_step()
        heartbeat.tokens.discard(token)


def run(operation: Operation, loaded: Loaded) -> Steps:
    """The steps of an operation; BundleError and InvalidInput say why there is no result."""
    kinds: dict[str, Callable[[Operation, Loaded], Steps]] = {
        Operation.Kind.CHECK: _check,
        Operation.Kind.EVALUATE: _evaluate,
        Operation.Kind.COMPARE: _compare,
        Operation.Kind.REPLAY: _replay,
    }
    return kinds[operation.kind](operation, loaded)


def _version(operation: Operation) -> ModelVersion:
    if operation.version is None:
        raise InvalidInput("version", f"{operation.label} was uninstalled meanwhile.")
    return operation.version


def _check(operation: Operation, loaded: Loaded) -> Steps:
    """The bundle's own examples, its files read anew."""
    yield 0, 1
    predictor = loaded.check(_version(operation))
    return {"examples": len(predictor.bundle.read_json("examples.json")["examples"])}


def _evaluate(operation: Operation, loaded: Loaded) -> Steps:
    spec = tasks.get(_version(operation).task)
    rows = list(read_labelled(operation))
    if any(row.expected is None for row in rows):
        raise InvalidInput("file", "Some rows say nothing of what is expected. Each needs an “expected”.")
    answers = yield from _ask(loaded.get(_version(operation)), rows, 0, len(rows))
    good = [(row.expected, a.scored) for row, a in zip(rows, answers, strict=True) if not a.error]
    if not good:
        raise InvalidInput("file", f"None of the {len(rows):,} rows could be answered: {answers[0].error}")
    scores = spec.scores([expected for expected, _ in good], [scored for _, scored in good])
    return {
        "items": len(rows),
        "errors": len(rows) - len(good),
        "scores": {name: round(value, 4) for name, value in scores.items()},
        "latency_ms": _latency(answers),
    }


def _compare(operation: Operation, loaded: Loaded) -> Steps:
    spec = tasks.get(_version(operation).task)
    assert operation.other is not None
    rows = list(read_labelled(operation) if operation.file else _answered(operation))
    if not rows:
        raise InvalidInput(
            "file", "There is nothing to compare: the file was deleted, or no job was answered yet, documents aside."
        )
    first = yield from _ask(loaded.get(_version(operation)), rows, 0, 2 * len(rows))
    second = yield from _ask(loaded.get(operation.other), rows, len(rows), 2 * len(rows))
    result = _difference(spec, rows, [a.headline for a in second], first)
    labelled = [place for place, row in enumerate(rows) if row.expected is not None]
    sides = []  # a list: PostgreSQL keeps no order of an object's names
    for version, answers in ((_version(operation), first), (operation.other, second)):
        good = [place for place in labelled if not answers[place].error]
        scores = spec.scores([rows[i].expected for i in good], [answers[i].scored for i in good]) if good else {}
        side = {
            "version": str(version),
            "scores": {name: round(value, 4) for name, value in scores.items()},
            "latency_ms": _latency(answers),
            "errors": sum(bool(answer.error) for answer in answers),
        }
        sides.append(side)
    return {**result, "versions": sides}


def _replay(operation: Operation, loaded: Loaded) -> Steps:
    spec = tasks.get(_version(operation).task)
    rows = list(_answered(operation))
    if not rows:
        raise InvalidInput(
            "number",
            "No job of this task and variant was answered yet, documents aside, so there is nothing to replay.",
        )
    answers = yield from _ask(loaded.get(_version(operation)), rows, 0, len(rows))
    result = _difference(spec, rows, [row.answered or "" for row in rows], answers)
    then = [row.seconds for row in rows if row.seconds is not None]
    return {
        **result,
        "latency_ms": {"then": round(1000 * statistics.median(then)) if then else None, "now": _latency(answers)},
        "errors": sum(bool(answer.error) for answer in answers),
    }


def _ask(
    predictor: Predictor, rows: Sequence[Row], done: int, total: int
) -> Generator[tuple[int, int], None, list[Answer]]:
    """Answers in order, a window at a time; long ones in many steps."""
    spec, found = predictor.task, []
    for start in range(0, len(rows), _WINDOW):
        yield done + start, total
        window = rows[start : start + _WINDOW]
        began = looked = time.monotonic()
        with files.located_all(spec, [row.inputs for row in window]) as located:
            requests = [{"inputs": i, "options": row.options} for i, row in zip(located, window, strict=True)]
            answers: list[dict[str, Any]] = []
            for step in predictor.stepwise(requests):
                answers = step
                if time.monotonic() - looked > _LOOK_S:
                    yield done + start, total
                    looked = time.monotonic()
        each = (time.monotonic() - began) / len(window)
        found += [_answer(spec, answer, each) for answer in answers]
    return found


def _difference(
    spec: tasks.Task, rows: Sequence[Row], before: Sequence[str], answers: Sequence[Answer]
) -> dict[str, Any]:
    """Agreement with earlier answers, and those that differ, the least alike first; whose they were is not told."""
    found: list[dict[str, Any]] = []
    for row, then, answer in zip(rows, before, answers, strict=True):
        now = answer.headline
        if now != then:
            alike = SequenceMatcher(None, then, now, autojunk=False).ratio()
            found.append({"asked": spec.headline(row.inputs), "then": then, "now": now, "alike": round(alike, 3)})
    found.sort(key=lambda entry: entry["alike"])
    return {
        "items": len(rows),
        "agreement": round(1 - len(found) / max(1, len(rows)), 4),
        "differences": found[:_SHOWN],
    }


def _answer(spec: tasks.Task, answer: dict[str, Any], seconds: float) -> Answer:
    if (output := answer.get("output")) is not None:
        return Answer(spec.headline_of_output(output)[:120], spec.scored(output), "", seconds)
    error = str(answer.get("error", {}).get("message", "")) or NEUTRAL
    return Answer(f"no answer: {error}", None, error, seconds)


def _latency(answers: Sequence[Answer]) -> int:
    """Milliseconds an item, median; items of a window share its time."""
    return round(1000 * statistics.median(answer.seconds for answer in answers)) if answers else 0


def _answered(operation: Operation) -> Iterator[Row]:
    """The last jobs of the version's task and variant that were answered; but those with a document, whose headline
    is its name whatever a version makes of it."""
    version = _version(operation)
    jobs = Job.objects.filter(task=version.task, variant=version.variant, status=Status.SUCCEEDED).select_related(
        "content"
    )
    if document := tasks.get(version.task).document_input:
        key = f"content__inputs__{document}"
        jobs = jobs.filter(Q(**{key: None}) | Q(**{f"{key}__isnull": True}))
    for job in jobs.order_by("-created_at")[: operation.number]:
        yield Row(job.content.inputs, job.content.options, None, job.answer, job.model_time_s)


def read_labelled(operation: Operation) -> Iterator[Row]:
    """Rows of a labelled file: JSON lines `{"inputs", "options"?, "expected"}`, or `expected TAB text`."""
    spec = tasks.get(_version(operation).task)
    if operation.file is None:
        raise InvalidInput("file", "The labelled file was deleted meanwhile. Start the operation again with it.")
    try:
        with files.local_path(str(operation.file_id)) as path, path.open(encoding="utf-8-sig", newline="") as file:
            if not _is_table(path):
                yield from (_row(number, line) for number, line in enumerate(_limited(file), start=1) if line.strip())
                return
            lines = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except UnicodeDecodeError:
        raise InvalidInput("file", "The file is not text in UTF-8. Save it as UTF-8 and upload it again.") from None
    except csv.Error as error:
        raise InvalidInput("file", f"The file cannot be read: {error}.") from error
    for number, line in enumerate(_limited(lines), start=1):
        if not any(cell.strip() for cell in line):
            continue
        if len(line) != 2 or not spec.many:
            raise InvalidInput("file", f"Line {number} is not “expected TAB text”.")
        yield Row({spec.many: line[1]}, None, line[0])


def _is_table(path: Any) -> bool:
    with path.open("rb") as file:
        return not file.read(64).lstrip(b"\xef\xbb\xbf \n\r").startswith(b"{")


def _limited(lines: Any) -> Iterator[Any]:
    for number, line in enumerate(lines, start=1):
        if number > MOST_ROWS:
            raise InvalidInput("file", f"The file has more than {MOST_ROWS:,} rows.")
        yield line


def _row(number: int, line: str) -> Row:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise InvalidInput("file", f"Line {number} is no JSON.") from error
    if (
        not isinstance(value, dict)
        or not isinstance(value.get("inputs"), dict)
        or set(value) - {"inputs", "options", "expected"}
    ):
        raise InvalidInput("file", f"Line {number} is no object with “inputs”, “expected” and, if wanted, “options”.")
    return Row(value["inputs"], value.get("options"), value.get("expected"))
