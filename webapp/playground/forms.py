"""A task's form, generated from its fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from django.http import QueryDict

from mlcore.fields import Field
from mlcore.task import Task

_OPTION = "option-"  # prefix of an option's control, so that it cannot meet an input of the same name


@dataclass(frozen=True)
class Control:
    """One field with its value and its error, as the template shows it."""

    name: str
    spec: Field
    value: Any = ""
    error: str = ""

    @property
    def template(self) -> str:
        """The partial of its kind."""
        return f"components/fields/{self.spec.widget}.html"


@dataclass(frozen=True)
class TaskForm:
    """Controls of a task's inputs and options, and an error that belongs to none of them."""

    inputs: list[Control]
    options: list[Control]
    error: str = ""
    task: Task | None = field(default=None)

    @property
    def shown(self) -> list[Control]:
        """Options that the task wants in sight."""
        names = {_OPTION + name for name in (self.task.shown_options if self.task else ())}
        return [control for control in self.options if control.name in names]

    @property
    def folded(self) -> list[Control]:
        """The others, which stand under “More”."""
        return [control for control in self.options if control not in self.shown]

    @property
    def folded_error(self) -> bool:
        """Whether one of these is at fault, so that it must be seen."""
        return any(control.error for control in self.folded)


def bound(
    task: Task,
    inputs: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    errors: Mapping[str, str] | None = None,
) -> TaskForm:
    """The form filled with these values; an error whose field is no control stands above.

    What is wrong with one item (`stop[0]`) stands beside the field that holds it.
    """
    left = {name.split("[")[0]: message for name, message in (errors or {}).items()}

    def controls(specs: Mapping[str, Field], values: Mapping[str, Any], prefix: str) -> list[Control]:
        return [
            Control(prefix + name, spec, _shown(values.get(name), spec), left.pop(name, ""))
            for name, spec in specs.items()
        ]

    typed = {name: spec for name, spec in task.inputs.items() if name != task.document_input}
    found_inputs = controls(typed, inputs or {}, "")
    found_options = controls(task.options, options or {}, _OPTION)
    return TaskForm(found_inputs, found_options, " ".join(left.values()), task)


def _shown(value: Any, spec: Field) -> Any:
    if value is None:
        return "" if spec.default is None else spec.show(spec.default)
    return spec.show(value)


def read(task: Task, post: QueryDict) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs and options as the form sent them, unchecked; browsers send line ends as CR LF."""

    def values(specs: Mapping[str, Field], prefix: str) -> dict[str, Any]:
        return {name: spec.parse(post.get(prefix + name, "").replace("\r\n", "\n")) for name, spec in specs.items()}

    inputs = values({name: spec for name, spec in task.inputs.items() if name != task.document_input}, "")
    return {name: "" if value is None else value for name, value in inputs.items()}, values(task.options, _OPTION)


def query_of(chosen: Mapping[str, str]) -> str:
    """What a page's link adds to its address to keep the filter."""
    return "".join(f"&{urlencode({name: value})}" for name, value in chosen.items() if value)
