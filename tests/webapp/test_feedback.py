"""What people say of answers, on its way back to the recipes."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from mlcore import task as tasks
from mlcore.training import corpora, parallel_text
from webapp.jobs import feedback
from webapp.jobs.models import Feedback
from webapp.registry.models import ModelVersion

from .conftest import TASK

pytestmark = pytest.mark.django_db
PLACE = "/admin/jobs/feedback/"


def said(version: ModelVersion, asked: str, ours: str, theirs: str = "", **more: Any) -> Feedback:
    values = {"task": TASK, "session": "anna"} | more
    return Feedback.objects.create(version=version, asked=asked, ours=ours, theirs=theirs, **values)


def test_the_recipes_read_what_is_exported(version: ModelVersion, admin_client: Client, tmp_path: Path) -> None:
    accepted = Feedback.Review.ACCEPTED
    said(version, "A long\ttext\nof two lines.", "positive", "negative", review=accepted)
    said(version, "Right as it is.", "neutral", right=True, review=accepted)
    said(version, "Right as it is.", "neutral", right=True, review=accepted, session="berta")
    said(version, "Right, but nobody looked.", "neutral", right=True)
    said(version, "Not read yet.", "neutral", "positive")
    said(version, "Wrong, and no word why.", "neutral")
    said(version, "Right, but nonsense.", "neutral", right=True, review=Feedback.Review.DISMISSED)
    languages = {"source": "de", "target": "en"}
    more = {"task": "translation", "review": accepted}
    said(version, "Der Hund bellt.", "The dog bells.", "The dog barks.", said_with=languages, **more)
    said(version, "Der Hund.", "Le chien.", "Le chien !", said_with=languages | {"target": "fr"}, **more)
    form = {"action": "export", "_selected_action": list(Feedback.objects.values_list("pk", flat=True))}
    response = admin_client.post(PLACE, form)
    assert "3 remarks exported, 6 left out" in admin_client.get(PLACE).content.decode()
    assert LogEntry.objects.filter(change_message__contains="exported").count() == 3
    assert not LogEntry.objects.filter(object_repr__contains="dog").exists(), "logs outlive what they tell of"
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        archive.extractall(tmp_path)
    (source,) = corpora._feedback(tmp_path)
    assert [(example.text, corpora.LABELS[example.target]) for example in source.examples] == [
        ("Right as it is.", "neutral"),
        ("A long text of two lines.", "negative"),
    ]
    assert list(parallel_text.read_pairs(tmp_path, "de", "train", "feedback")) == [
        ("The dog barks.", "Der Hund bellt.")
    ]
    assert corpora._feedback(tmp_path / "elsewhere") == []


def test_nothing_to_export_is_said(version: ModelVersion, admin_client: Client) -> None:
    row = said(version, "Not read yet.", "neutral", "positive")
    form = {"action": "export", "_selected_action": [row.pk]}
    assert "accept remarks first" in admin_client.post(PLACE, form, follow=True).content.decode()
    assert feedback.training_files([row]) == ({}, [])


@pytest.mark.parametrize("task", tasks.names())
def test_every_task_can_say_whether_it_has_a_training_format(task: str) -> None:
    found = tasks.get(task).training_row("Der Hund.", "positive", {"source": "de", "target": "en"})
    assert (found is not None) is (task in (TASK, "translation"))
    assert tasks.get(task).training_row("", "", {}) is None


def test_a_detected_language_is_kept_with_the_remark() -> None:
    spec = tasks.get("translation")
    kept = spec.said_with({"source": "auto", "target": "en"}, {"detected_language": {"code": "fr"}})
    assert kept == {"source": "fr", "target": "en"}
    assert spec.training_row("Le chien.", "The dog.", kept) == (
        "translation/en-fr/train.feedback.tsv.xz",
        ["The dog.", "Le chien."],
    )
