"""The command line: python -m mlcore tasks | predict | train | evaluate | verify."""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

from mlcore import bundle as bundles
from mlcore import task
from mlcore.bundle import Bundle
from mlcore.errors import InvalidInput, MLCoreError

_MAX_LINE = 32 << 20  # characters of one request


class CommandError(Exception):
    """The command itself was wrong: exit status 2."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it was done, 2 when it was wrong."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if len(rest) == 1 and getattr(options, "input", "") is None and (rest[0] == "-" or rest[0][:1] != "-"):
        options.input = rest.pop()  # argparse does not see an optional positional behind options
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        status: int = options.run(options)
    except (MLCoreError, CommandError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mlcore", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("tasks", help="list tasks, variants and shipped bundles")
    command.set_defaults(run=_tasks)

    command = commands.add_parser("predict", help="answer requests, one JSON object a line")
    command.add_argument("task")
    command.add_argument("input", nargs="?", metavar="INPUT.jsonl", help="- is standard input")
    command.add_argument("--text", help="one text instead of a file")
    which = command.add_mutually_exclusive_group()
    which.add_argument("--variant", help="which shipped bundle of the task")
    which.add_argument("--bundle", type=Path, metavar="DIR", help="a bundle of your own")
    command.add_argument("--options", type=_json_object, metavar="JSON", default={})
    command.add_argument("--batch-size", type=_positive, metavar="N", default=0)
    command.add_argument("--device", choices=["cpu", "cuda", "auto"], default="auto")
    command.add_argument("-o", "--output", type=Path, metavar="OUTPUT.jsonl")
    command.set_defaults(run=_predict)

    command = commands.add_parser("train", help="train a bundle with the committed recipe, on the CPU")
    command.add_argument("task")
    command.add_argument("--variant")
    _add_data(command)
    command.add_argument("--size", choices=["tiny", "base", "large"], default="base")
    command.add_argument("--out", type=Path, required=True, metavar="DIR")
    command.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    command.add_argument("--init", type=Path, metavar="BUNDLE", help="start from a bundle's weights")
    command.add_argument("--seed", type=int, default=1)
    command.set_defaults(run=_train)

    command = commands.add_parser("evaluate", help="print the scores of a bundle on a labelled split")
    command.add_argument("bundle", type=Path)
    _add_data(command, required=False)
    command.add_argument("--split", default="dev")
    command.add_argument("--file", type=Path, metavar="TEXT.txt", help="a text of your own (language models)")
    command.add_argument("--options", type=_json_object, metavar="JSON", default={})
    command.add_argument("--device", choices=["cpu", "cuda", "auto"], default="auto")
    command.add_argument("-o", "--output", type=Path, metavar="METRICS.json")
    command.set_defaults(run=_evaluate)

    command = commands.add_parser("verify", help="check a bundle: digests, tensors, its own examples")
    command.add_argument("bundle", type=Path)
    command.set_defaults(run=_verify)
    return parser


def _add_data(command: argparse.ArgumentParser, *, required: bool = True) -> None:
    default = os.environ.get("UNROLL_DATA")
    command.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        default=Path(default) if default else None,
        required=required and not default,
        help="folder of training data; UNROLL_DATA sets a default",
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"is no JSON ({error})") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("must be a JSON object")
    return value


def _keep(product: Any) -> str:
    """Write a file of an answer into the current folder, never over another one; its name."""
    if not isinstance(product, task.Product):
        raise TypeError(f"{type(product).__name__} is no JSON")
    path = Path(product.name)
    number = 1
    while path.exists():
        number += 1
        path = Path(product.name).with_stem(f"{Path(product.name).stem}-{number}")
    path.write_bytes(product.data)
    return str(path)


def _tasks(options: argparse.Namespace) -> int:
    for name in task.names():
        spec = task.get(name)
        print(f"{name}  {spec.summary}")
        for folder in bundles.shipped():
            if folder.parent.name == name:
                found = Bundle.open(folder)
                default = " (default)" if found.variant == spec.default_variant else ""
                print(f"  {found.label}{default}  {found.size / 1e6:.1f} MB  {folder}")
    return 0


def find_bundle(name: str, *, variant: str | None = None, folder: Path | None = None) -> Bundle:
    """The bundle of a task: at `folder`, else the shipped one of `variant`, else of the task's default."""
    spec = task.get(name)
    if folder is None:
        root = bundles.shipped_root() / spec.name
        folder = root / (variant or spec.default_variant)
        if not (folder / "config.json").exists():
            known = sorted(path.parent.name for path in root.glob("*/config.json"))
            raise InvalidInput(
                "variant", f"No bundle {folder.name!r} is shipped. Shipped: {', '.join(known) or 'none'}."
            )
    found = Bundle.open(folder)
    if found.task != spec.name:
        raise CommandError(f"{folder} is a bundle of {found.task}, not of {spec.name}.")
    return found


def _predict(options: argparse.Namespace) -> int:
    if (options.text is None) == (options.input is None):
        raise CommandError("give either INPUT.jsonl or --text")
    found = find_bundle(options.task, variant=options.variant, folder=options.bundle)
    from mlcore.predictor import Predictor

    read = None if options.input in (None, "-") else Path(options.input).resolve()
    if options.output and read == options.output.resolve():
        raise CommandError("-o names the file that is read; its requests would be lost. Name another one")
    predictor = Predictor(found, options.device)
    with _source(options) as requests, _sink(options.output) as sink:
        for answer in predictor.predict(requests, options.options, batch_size=options.batch_size):
            sink.write(json.dumps(answer, ensure_ascii=False, default=_keep) + "\n")
    return 0


@contextmanager
def _source(options: argparse.Namespace) -> Iterator[Iterator[Any]]:
    if options.text is not None:
        first = next(iter(task.get(options.task).inputs))
        yield iter([{first: options.text}])
        return
    spec = task.get(options.task)
    folder = Path() if options.input == "-" else Path(options.input).resolve().parent
    if options.input == "-" and isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="replace")  # as a file is read, whatever the locale
    try:
        path = Path(options.input)
        opened: Any = (
            nullcontext(sys.stdin) if options.input == "-" else path.open(encoding="utf-8-sig", errors="replace")
        )
    except OSError as error:
        raise CommandError(f"{options.input} cannot be read: {error.strerror}") from error
    with opened as file:
        yield (_located(spec, request, folder) for request in _requests(file))


def _located(spec: task.Task, request: Any, folder: Path) -> Any:
    """A request whose files are named from where the process runs, not from where its own file lies."""
    if isinstance(request, dict) and "inputs" in request and "inputs" not in spec.inputs:
        return {**request, "inputs": spec.locate(request["inputs"], folder)}
    return spec.locate(request, folder)


def _requests(file: IO[str]) -> Iterator[Any]:
    while line := file.readline(_MAX_LINE):
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            yield line  # refused at its place as "text, not an object", so that answers stay in order


@contextmanager
def _sink(path: Path | None, mode: str = "w") -> Iterator[IO[str]]:
    """Where answers go; a path that cannot be written is told before the work, not after it."""
    if path is None:
        yield sys.stdout
        return
    try:
        opened: Any = path.open(mode, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error
    with opened as file:
        yield file


def _write_anew(sink: IO[str], text: str) -> None:
    """In place of what an earlier command left there, now that there is something to put."""
    if sink is not sys.stdout:
        sink.seek(0)
        sink.truncate()
    print(text, file=sink)


def _train(options: argparse.Namespace) -> int:
    spec = task.get(options.task)
    from mlcore.training.process import keep_buffers

    keep_buffers()  # before torch is imported
    from mlcore.training.run import Run, recipe

    run = Run(
        task=spec.name,
        variant=options.variant or spec.default_variant,
        data=options.data,
        size=options.size,
        out=options.out.resolve(),  # "." has no name of its own
        resume=options.resume,
        init=options.init,
        seed=options.seed,
    )
    run.begin()
    print(recipe(spec.name).train(run))
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    found = Bundle.open(options.bundle)
    from mlcore.predictor import Predictor
    from mlcore.training.run import recipe

    module = recipe(found.task)
    if options.file is not None:
        return _evaluate_file(module, Predictor(found, options.device), options)
    if options.data is None:
        raise CommandError("give the folder of evaluation data with --data or UNROLL_DATA")
    if options.options:
        raise CommandError("--options go with --file; a labelled split is read with those of its card")
    with _sink(options.output, "a") as sink:
        metrics = module.evaluate(Predictor(found, options.device), options.data, options.split)
        print(module.table(metrics))
        _write_anew(sink, json.dumps(metrics, indent=1))
    return 0


def _evaluate_file(module: Any, predictor: Any, options: argparse.Namespace) -> int:
    if not hasattr(module, "evaluate_text"):
        raise CommandError(f"{predictor.task.name} cannot be evaluated on a plain text; leave --file out")
    try:
        text = options.file.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise CommandError(f"{options.file} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{options.file} cannot be read as UTF-8: {error}") from error
    if not text:
        raise CommandError(f"{options.file} holds no text")
    with _sink(options.output, "a") as sink:
        _write_anew(sink, json.dumps(module.evaluate_text(predictor, text, options.options)))
    return 0


def _verify(options: argparse.Namespace) -> int:
    found = Bundle.open(options.bundle)
    from mlcore.predictor import Predictor, self_test

    self_test(Predictor(found))
    count, size = len(found.manifest["digests"]), found.size / 1e6
    print(f"{found.label} is whole: {count} files, {size:.1f} MB, its examples are answered as stored.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
