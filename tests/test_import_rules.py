"""Who may import whom, tried in fresh interpreters and read from the sources."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("predictor", "engine", "generation", "batching", "decoding", "beam", "sampling", "models", "training")
TYPES_ONLY = ("running.py", "operate.py", "caretaker.py")  # these name the heavy half's types, and import nothing of it
TASK_NAMES = (
    *("sentiment-analysis", "sentiment_analysis", "text-generation", "translation/"),
    *("image-captioning", "image-tagging"),
)
PHOTOS = ("photos.py", "photos.html")  # the page that two tasks share knows both


def modules_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after running `code`."""
    found = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "DJANGO_SETTINGS_MODULE": "webapp.settings", "SECRET_KEY": "x"},
    )
    return set(found.stdout.split())


def test_the_web_process_loads_no_torch() -> None:
    loaded = modules_after(
        "import django; django.setup(); import webapp.asgi, webapp.urls; from mlcore import task; task.names()"
    )
    assert not loaded & {"torch", "sklearn", "sentencepiece", "tqdm"}


@pytest.mark.parametrize("module", ["errors", "fields", "task", "text", "bundle", "sentences", "writing", "detection"])
def test_the_light_half_of_mlcore_loads_no_torch(module: str) -> None:
    loaded = modules_after(f"import mlcore.{module}; from mlcore import task; task.names()")
    assert not loaded & {"torch", "django", "celery", "webapp"}


def test_mlcore_loads_no_django() -> None:
    loaded = modules_after("import mlcore.predictor, mlcore.training.recipes.sentiment_analysis, mlcore.__main__")
    assert "torch" in loaded
    assert not loaded & {"django", "celery", "webapp", "redis"}


def imports(path: Path, *, run: bool = False) -> set[str]:
    """Dotted names that a file imports anywhere; with `run` not those that only a type checker reads."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if run:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                node.body = [ast.Pass()]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_what_imports_torch_is_known_as_heavy() -> None:
    for path in (ROOT / "mlcore").glob("*.py"):
        if "torch" in imports(path, run=True) and path.stem != "__main__":
            assert path.stem in HEAVY, path


def test_nothing_in_webapp_imports_the_worker_or_heavy_mlcore() -> None:
    heavy = (*(f"mlcore.{name}" for name in HEAVY), "torch")
    for path in (ROOT / "webapp").rglob("*.py"):
        names = imports(path, run=path.name in TYPES_ONLY)
        if path.name not in ("worker.py", "server.py"):
            assert not names & {"webapp.jobs.worker", "webapp.jobs.server", "webapp.jobs.loaded"}, path
        if path.name not in ("worker.py", "server.py", "loaded.py"):
            assert not {n for n in names if n.startswith(heavy)}, path


@pytest.mark.parametrize(
    ("app", "forbidden"),
    [
        ("registry", ("webapp.jobs", "webapp.control", "webapp.playground", "webapp.api")),
        ("jobs", ("webapp.control", "webapp.playground", "webapp.api")),
        ("control", ("webapp.playground", "webapp.api")),
        ("playground", ("webapp.api",)),
        ("api", ("webapp.playground",)),
    ],
)
def test_apps_import_downwards_only(app: str, forbidden: tuple[str, ...]) -> None:
    for path in (ROOT / "webapp" / app).rglob("*.py"):
        assert not {n for n in imports(path) if n.startswith(forbidden)}, path


def test_no_task_is_named_in_shared_code() -> None:
    shared = [
        *(ROOT / "webapp").rglob("*.py"),
        *(ROOT / "static" / "js").glob("*.js"),
        ROOT / "templates" / "base.html",
    ]
    shared += [
        *(ROOT / "templates" / "playground").glob("*.html"),
        *(ROOT / "templates" / "components").rglob("*.html"),
    ]
    for path in shared:
        text = path.read_text(encoding="utf-8")
        known = [name for name in TASK_NAMES if not (name.startswith("image-") and path.name in PHOTOS)]
        assert not [name for name in known if name in text], path


def test_weights_are_never_unpickled() -> None:
    for path in [*(ROOT / "mlcore").rglob("*.py"), *(ROOT / "webapp").rglob("*.py")]:
        assert not imports(path) & {"pickle", "dill", "joblib", "shelve"}, path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) != ("torch", "load"), path
