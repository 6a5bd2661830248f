"""What a task is: its schema, its way from inputs to an item and from raw answers to JSON; and the registry."""

from __future__ import annotations

import importlib
import math
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mlcore.errors import InvalidInput
from mlcore.fields import Field, clean_fields, object_schema
from mlcore.media.fields import Document, FileField

if TYPE_CHECKING:
    from mlcore.bundle import Bundle

JSON = dict[str, Any]


@dataclass(frozen=True)
class Item:
    """One row on its way to the model.

    `features` are arrays whose first axis is time; `context` is what postprocess wants back; `cost` is the
    number of steps, by which batches are capped. A row may be several `parts` (the sentences of a text): they are
    answered one by one, batched with those of other rows, and postprocess gets the list of their raw answers.
    """

    features: Mapping[str, Any]
    options: Mapping[str, Any]
    context: Any
    cost: int
    parts: Sequence[Item] | None = None


@dataclass(frozen=True)
class Product:
    """A file that an answer holds; whoever asked keeps it and puts its place into the output instead."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Cell:
    """One step of an answer: `text[start:end]` of its strip, a tint from -1 to 1, and words for its detail.

    Where an answer has parts (sentences), `part` and `step` say which word of which part it is; what was kept as it
    was has no step.
    """

    start: int
    end: int
    tint: float
    detail: str
    part: int | None = None
    step: int | None = None


@dataclass(frozen=True)
class Strip:
    """An answer opened step by step: the text that is read, its cells in order, and what a tint means."""

    text: str
    kind: Literal["for-against", "confidence", "plain"]
    cells: Sequence[Cell]
    low: str = ""  # words at the two ends of the legend; a plain strip has no tints and no legend
    high: str = ""
    value: str = "Weight"  # heading of the number in the table view
    hint: str = "Point at a word, or move with the arrow keys, to open it."


@dataclass(frozen=True)
class Example:
    """A demo request, shown as a chip."""

    title: str
    inputs: JSON
    options: JSON = field(default_factory=dict)


class Task(ABC):
    """Stateless; one instance of each in the registry. Names follow Hugging Face's where one exists."""

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    title: ClassVar[str]
    menu: ClassVar[str]  # one word for the header
    verb: ClassVar[str]  # what the button says
    summary: ClassVar[str]  # one sentence: what it does
    caution: ClassVar[str]  # one sentence: what it cannot do
    inputs: ClassVar[Mapping[str, Field]]
    options: ClassVar[Mapping[str, Field]] = {}
    shown_options: ClassVar[Sequence[str]] = ()  # that the page's own form shows in sight, not under "More"
    output: ClassVar[Mapping[str, Field]]
    examples: ClassVar[Sequence[Example]]
    offers_examples: ClassVar[bool] = True  # as chips on the pages
    default_variant: ClassVar[str]
    page: ClassVar[str] = ""  # tasks that belong on one page name it
    queue: ClassVar[str] = "fast"
    max_batch_size: ClassVar[int] = 64
    max_batch_cost: ClassVar[int] = 16_384  # rows times the longest, padding included
    max_batch_cost_cpu: ClassVar[int] = 2_048  # a CPU is done sooner with what its caches hold (benchmarks/)
    max_run_s: ClassVar[float] = 300.0
    streams: ClassVar[bool] = False  # parts grow while they are watched, token by token
    unit: ClassVar[str] = ""  # what progress counts, where rows have parts: "sentences"
    question: ClassVar[str] = "Was this right?"  # asked under an answer; empty: nothing is
    many: ClassVar[str] = ""  # the text input that a line of a batch fills; empty: no batch box

    def clean(self, inputs: Any, options: Any) -> tuple[JSON, JSON]:
        """Checked inputs and options with defaults filled in, or InvalidInput."""
        return (
            clean_fields(self.inputs, inputs, kind="input"),
            clean_fields(self.options, {} if options is None else options, kind="option"),
        )

    def options_again(self, options: JSON) -> JSON:
        """A job's options as a form is filled with them for the next one."""
        return options

    @property
    def file_inputs(self) -> list[str]:
        """Inputs that are files: a path for the library, an upload's id for the server."""
        return [name for name, spec in self.inputs.items() if isinstance(spec, FileField)]

    @property
    def document_input(self) -> str:
        """The input that is a document, where there is one: the page takes it in a form of its own."""
        return next((name for name, spec in self.inputs.items() if isinstance(spec, Document)), "")

    def locate(self, inputs: Any, folder: Path) -> Any:
        """The same inputs, relative paths of files taken from `folder`."""
        if not isinstance(inputs, Mapping):
            return inputs
        found = dict(inputs)
        for name in self.file_inputs:
            if isinstance(found.get(name), str):
                found[name] = str(folder / found[name])
        return found

    def estimate(self, inputs: JSON) -> int:
        """A rough cost of a job before it is preprocessed: characters of its longest text."""
        return max((len(value) for value in inputs.values() if isinstance(value, str)), default=1)

    def queue_of(self, inputs: JSON) -> str:
        """The queue that a job of these inputs belongs to: a long one must not delay a sentence."""
        return self.queue

    def run_limit_s(self, inputs: JSON) -> float:
        """How long a job of these inputs may run."""
        return self.max_run_s

    def length_bucket(self, inputs: JSON) -> int:
        """Jobs are batched only with others of about their length: a rung for each doubling from 128."""
        return max(7, math.ceil(math.log2(max(1, self.estimate(inputs)))))

    def batch_options(self, options: JSON) -> JSON:
        """The options that all rows of a batch must share."""
        return {name: options[name] for name, spec in self.options.items() if spec.scope == "batch"}

    def headline(self, inputs: JSON) -> str:
        """The first 120 characters of what was asked, on one line, for lists."""
        text = next((value for value in inputs.values() if isinstance(value, str)), self.title)
        return " ".join(text[:600].split())[:120]

    @abstractmethod
    def load_assets(self, bundle: Bundle) -> Any:
        """What preprocess and postprocess need of a bundle (tokenizer, labels); loaded once."""

    @abstractmethod
    def preprocess(self, inputs: JSON, options: JSON, assets: Any) -> Item:
        """Clean inputs to an item; InvalidInput where the fault shows only here."""

    @abstractmethod
    def postprocess(self, raw: Any, item: Item, assets: Any) -> JSON:
        """The model's raw answer of this item to the task's output."""

    def postprocess_part(self, raw: Any, part: Item, assets: Any) -> JSON:
        """What is shown of a part while the others are still worked on."""
        raise NotImplementedError(f"{self.name} has no parts")

    def condense(self, raw: Any, part: Item) -> Any:
        """What of a part's raw answer is kept until the row is whole."""
        return raw

    def merge_part(self, known: JSON, fresh: JSON) -> JSON:
        """A part as it is known, with what a step added to it."""
        return fresh

    def output_of_partial(self, options: JSON, partial: JSON) -> JSON | None:
        """The output of a job that was stopped while no worker held it, where half an answer is worth keeping."""
        return None

    def for_self_test(self, options: JSON) -> JSON:
        """The options with which a bundle stores the answers to its examples: small, and the same on any machine."""
        return options

    def resume(self, item: Item, partial: JSON, assets: Any) -> Item:
        """An item that takes up what was stored of its answer before a worker ended; by default it begins anew."""
        return item

    @abstractmethod
    def strip(self, inputs: JSON, output: JSON) -> Strip:
        """The answer as the one strip component shows it."""

    @abstractmethod
    def headline_of_output(self, output: JSON) -> str:
        """The answer in a few words, for lists and CSV."""

    def text_of_output(self, output: JSON) -> str:
        """The whole answer as a text that people copy and save; empty where the headline is all."""
        return ""

    def part_of_answer(self, inputs: JSON, output: JSON, part: int | None) -> tuple[str, str]:
        """What was asked and what was answered, of one part or of all; InvalidInput where there is no such part."""
        if part is not None:
            raise InvalidInput("part", "This answer has no parts. Leave “part” out.")
        return self.headline(inputs), self.text_of_output(output) or self.headline_of_output(output)

    def clean_better(self, better: str) -> str:
        """A better answer as people typed it, made to fit; InvalidInput where it cannot be an answer."""
        return better

    def said_with(self, options: JSON, output: JSON) -> JSON:
        """What a remark on an answer must keep to be worth anything without the job (languages)."""
        return {}

    def training_row(self, asked: str, answer: str, said_with: JSON) -> tuple[str, list[str]] | None:
        """A right answer as the task's recipe reads it: the file in a data folder and a row's columns; None where no
        recipe could."""
        return None

    def language_of_output(self, options: JSON) -> str:
        """The answer's language, for the page's `lang`; empty where it is the page's own."""
        return ""

    def scored(self, output: JSON) -> Any:
        """What `scores` needs of an answer, and no more: it is kept of thousands; by default the headline."""
        return self.headline_of_output(output)

    def scores(self, expected: Sequence[Any], found: Sequence[Any]) -> dict[str, float]:
        """Scores of answers, each as `scored` gives it, against what was expected; by default how many are the same."""
        same = [answer == str(wish) for wish, answer in zip(expected, found, strict=True)]
        return {"agreement": sum(same) / max(1, len(same))}

    def columns(self, output: JSON) -> JSON:
        """The answer as the columns of a CSV row."""
        return {name: value for name, value in output.items() if not isinstance(value, list | dict)}

    def schemas(self) -> JSON:
        """JSON Schema of inputs, options and output."""
        return {
            "inputs": object_schema(self.inputs),
            "options": object_schema(self.options),
            "output": object_schema(self.output),
        }


_TASKS: dict[str, Task] = {}


def register(task: type[Task]) -> type[Task]:
    """Class decorator: put one instance into the registry; a name or alias may stand there once."""
    instance = task()
    for name in (instance.name, *instance.aliases):
        if name in _TASKS:
            raise ValueError(f"Two tasks are called {name!r}.")
        _TASKS[name] = instance
    return task


@cache
def _discover() -> None:
    """Import every module of the catalogue: the folder is the list."""
    from mlcore import tasks

    for module in sorted(info.name for info in pkgutil.iter_modules(tasks.__path__)):
        importlib.import_module(f"{tasks.__name__}.{module}")


def names() -> list[str]:
    """Names of all tasks, aliases left out, in order."""
    _discover()
    return sorted({task.name for task in _TASKS.values()})


def get(name: Any) -> Task:
    """The task of this name or alias; InvalidInput lists the known ones."""
    _discover()
    if not isinstance(name, str) or name not in _TASKS:
        shown = f" {name!r}" if isinstance(name, str) and len(name) <= 60 else ""
        raise InvalidInput("task", f"There is no task{shown}. Known: {', '.join(names())}.")
    return _TASKS[name]
