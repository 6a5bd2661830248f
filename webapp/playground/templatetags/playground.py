"""What the templates of the pages cannot say by themselves."""

import json
from typing import Any

from django.contrib.staticfiles import finders
from django.template import Library, TemplateDoesNotExist
from django.template.loader import get_template
from django.templatetags.static import static

from webapp.playground.panels import duration

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
def input_template(task: str) -> str:
    """`inputs/<task>.html` where it exists, else the generated form."""
    own = f"inputs/{task}.html"
    try:
        get_template(own)
    except TemplateDoesNotExist:
        return "inputs/_default.html"
    return own


@register.simple_tag
def task_script(task: str) -> str:
    """Address of `js/tasks/<task>.js` where it exists, else nothing."""
    own = f"js/tasks/{task}.js"
    return static(own) if finders.find(own) else ""
