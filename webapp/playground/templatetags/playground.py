"""What the templates of the pages cannot say by themselves."""

import json
from typing import Any

from django.contrib.staticfiles import finders
from django.template import Library
from django.templatetags.static import static
from django.urls import reverse

from mlcore import task as tasks
from mlcore.fields import Choice
from mlcore.task import Task
from webapp.jobs.models import Job
from webapp.playground.panels import duration, own_template, strip_parts

register = Library()


@register.filter(name="json")
def as_json(value: Any) -> str:
    """A value as JSON, for a data- attribute (escaped by the template like any text)."""
    return json.dumps(value, ensure_ascii=False)


@register.filter
def grouped(value: int) -> str:
    """A number with its thousands set apart."""
    return f"{value:,}"


@register.filter
def seconds(value: float | None) -> str:
    """A time as people say it."""
    return duration(value)


@register.simple_tag
def percent(share: float) -> str:
    """How sure a guess is, as people say it: never quite."""
    return f"{min(99, int(share * 100))} %"


@register.simple_tag
def choice_title(task: Task, option: str, value: str) -> str:
    """The title of an option's value."""
    return str(getattr(task.options[option], "choices", {}).get(value, value))


@register.simple_tag
def choice_title_of(field: Choice, value: str) -> str:
    """The title of one of a field's choices."""
    return field.choices.get(value, value)


@register.simple_tag
def question_about(job: Job) -> str:
    """What is asked under an answer."""
    return tasks.get(job.task).question


@register.filter
def and_then(text: str, value: Any) -> str:
    """A text with a value behind it, of whatever kind."""
    return f"{text}{value}"


@register.simple_tag
def strip_of(task: Task, inputs: dict[str, Any], output: dict[str, Any]) -> dict[str, Any]:
    """The strip of one of several answers."""
    return strip_parts(task.strip(inputs, output))


@register.filter
def last_characters(text: str, number: int) -> str:
    """The end of a long text, cut at a word."""
    if len(text) <= number:
        return text
    return "… " + text[-number:].split(" ", 1)[-1]


@register.simple_tag
def document_help(task: Task) -> str:
    """What documents a task reads."""
    return task.inputs[task.document_input].help.removeprefix("In place of the text: ")


@register.simple_tag
def file_address(public: str) -> str:
    """Where a document is downloaded; its id may carry the token that opens it."""
    pk, _, token = public.partition(":")
    return reverse("file", args=[pk]) + (f"?token={token}" if token else "")


@register.simple_tag
def input_template(task: str) -> str:
    """`inputs/<task>.html` where it exists, else the generated form."""
    return own_template("inputs", task) or "inputs/_default.html"


@register.simple_tag
def task_script(task: str) -> str:
    """Address of `js/tasks/<task>.js` where it exists, else nothing."""
    own = f"js/tasks/{task}.js"
    return static(own) if finders.find(own) else ""
