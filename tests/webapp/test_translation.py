"""The translation page and its API: parts as they come, documents, proposals, what is remembered."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from mlcore.bundle import Bundle
from tests.translator import KNOWN, make_translator
from webapp.jobs import operate, operations, submission, upkeep
from webapp.jobs.models import Batch, Feedback, File, Job, Operation, Remembered, Status
from webapp.jobs.owners import Owner
from webapp.jobs.server import Server
from webapp.registry import services as registry

TASK = "translation"
FORM = {"text": f"{KNOWN[0][0]} {KNOWN[1][0]}", "option-source": "de", "option-target": "en"}
ENGLISH = f"{KNOWN[0][1]} {KNOWN[1][1]}"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_translator(tmp_path_factory.mktemp("translator"))


@pytest.fixture
def work(db: None, bundle: Bundle) -> Callable[[], None]:
    registry.activate(registry.install(bundle.path, shipped=True))
    server = Server(["fast", "slow"], device="cpu")

    def run() -> None:
        while server.serve():
            pass

    return run


def submit(client: Client, **changes: str) -> Job:
    answer = client.post(f"/tasks/{TASK}/run", {**FORM, **changes})
    assert answer.status_code == 302, answer.content.decode()
    return Job.objects.select_related("content").get(pk=answer["Location"].split("/")[2])


def reread(job: Job) -> Job:
    return Job.objects.select_related("content", "version").get(pk=job.pk)


def test_a_text_is_translated_shown_and_downloaded(client: Client, work: Callable) -> None:
    job = submit(client)
    work()
    assert reread(job).content.output["translation_text"] == ENGLISH
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    assert 'lang="en"' in page
    assert page.count("data-sentence=") == 2
    saved = client.get(f"/jobs/{job.pk}/download")
    assert saved.content.decode() == ENGLISH
    assert "attachment" in saved["Content-Disposition"]
    assert Client().get(f"/jobs/{job.pk}/download").status_code == 404


def test_the_page_shows_pickers_and_keeps_what_was_refused(client: Client, work: Callable) -> None:
    page = client.get(f"/tasks/{TASK}/").content.decode()
    assert page.count('name="option-source"') == 3  # the form's own, the file's, the list's
    answer = client.post(f"/tasks/{TASK}/run", {**FORM, "option-target": "de"})
    assert answer.status_code == 422
    assert "already" in answer.content.decode()
    assert KNOWN[0][0] in answer.content.decode()


def test_parts_are_stored_and_told_as_they_come(client: Client, work: Callable, monkeypatch: Any) -> None:
    monkeypatch.setattr("webapp.jobs.answers.KEEP_PARTIAL_S", 0.0)
    told: list[tuple] = []
    monkeypatch.setattr("webapp.jobs.events.publish_many", told.extend)
    job = submit(client, text=f"{KNOWN[0][0]} " * 100)
    server = Server(["fast"], device="cpu")
    server._admit(server._claim())
    (running,) = server.running.values()
    server._step(running)
    stored = reread(job)
    assert (stored.progress_done, stored.progress_total, stored.progress_unit) == (32, 100, "sentences")
    assert stored.content.partial["parts"]["0"]["target"] == KNOWN[0][1]
    panel = client.get(f"/jobs/{job.pk}/panel").content.decode()
    assert "32 of 100 sentences" in panel
    assert KNOWN[0][1] in panel
    assert {event for _, event, _, _ in told} == {"state", "delta", "progress"}
    while server.serve():
        pass
    assert reread(job).status == Status.SUCCEEDED
    assert reread(job).content.partial is None


def test_a_short_job_joins_and_overtakes_a_long_one(client: Client, work: Callable, monkeypatch: Any) -> None:
    long = submit(client, text=f"{KNOWN[0][0]} " * 300)
    server = Server(["fast"], device="cpu")
    server._admit(server._claim())
    (running,) = server.running.values()
    server._step(running)
    short = submit(client)
    server._admit(server._claim())
    server._step(running)
    assert reread(short).status == Status.SUCCEEDED
    assert reread(long).status == Status.RUNNING
    server.stopping = True
    server.serve()
    assert reread(long).status == Status.QUEUED
    assert reread(long).attempts == 0


@pytest.mark.parametrize("suffix", [".srt", ".md", ".html"])
def test_a_document_comes_back_as_a_document(client: Client, work: Callable, suffix: str) -> None:
    bodies = {
        ".srt": "1\n00:00:01,000 --> 00:00:02,000\n{}\n",
        ".md": "# {}\n",
        ".html": "<script>x()</script><p>{}</p>",
    }
    sent = SimpleUploadedFile(f"mein film{suffix}", bodies[suffix].format(KNOWN[0][0]).encode())
    answer = client.post(f"/tasks/{TASK}/document", {"document": sent, "option-source": "auto", "option-target": "en"})
    job = Job.objects.get(pk=answer["Location"].split("/")[2])
    assert (job.queue, job.summary) == ("slow", f"mein film{suffix}")
    work()
    job = reread(job)
    assert job.status == Status.SUCCEEDED, job.content.error_message
    assert job.answer == f"mein film.en{suffix}"
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    address = f"/files/{job.content.output['document']['file']}"
    assert address in page
    saved = client.get(address)
    assert b"".join(saved.streaming_content).decode().strip() == bodies[suffix].format(KNOWN[0][1]).strip()
    assert saved["Content-Type"] == "application/octet-stream"
    assert "attachment" in saved["Content-Disposition"]
    assert Client().get(address).status_code == 404
    history = client.get("/history/").content.decode()
    assert f"mein film{suffix}" in history
    assert "<img" not in history
    assert "<img" not in client.get("/photos/").content.decode()
    client.post("/history/delete", {"row": f"job:{job.pk}"})
    assert not File.objects.exists()


def test_a_bad_document_is_refused_where_it_was_chosen(client: Client, work: Callable) -> None:
    for name, data, words in (
        ("a.pdf", b"%PDF-1.7", "not read"),
        ("a.docx", b"no zip", "no .docx"),
        ("a.txt", b"", "empty"),
    ):
        sent = SimpleUploadedFile(name, data)
        answer = client.post(f"/tasks/{TASK}/document", {"document": sent})
        assert answer.status_code == 422
        assert words in answer.content.decode()
    assert not File.objects.exists()
    assert "missing" in client.post(f"/tasks/{TASK}/document", {}).content.decode()


def test_a_document_over_the_api(client: Client, work: Callable, post_json: Callable) -> None:
    data = base64.b64encode(f"{KNOWN[0][0]}\n".encode()).decode()
    body = {"task": TASK, "inputs": {"document": {"base64": data, "name": "brief.txt"}}, "options": {"source": "de"}}
    made = post_json("/api/v1/jobs", body)
    assert made.status_code == 202, made.json()
    work()
    job = client.get(made.json()["urls"]["get"]).json()
    public = job["output"]["document"]["file"]
    assert ":" in public, "nobody's file carries its token"
    saved = client.get(f"/api/v1/files/{public}")
    assert b"".join(saved.streaming_content).decode() == f"{KNOWN[0][1]}\n"
    assert client.get(f"/api/v1/files/{public.split(':')[0]}").status_code == 404
    photo = {"task": TASK, "inputs": {"document": {"base64": data, "name": "a.png"}}}
    assert "not read" in post_json("/api/v1/jobs", photo).json()["error"]["message"]


def test_documents_of_batches_take_turns_in_their_own_queue(work: Callable, settings: Any) -> None:
    data = base64.b64encode(b"Guten Tag.\n").decode()
    item = {"inputs": {"document": {"base64": data, "name": "a.txt"}}}
    anna, ben = Owner(session="anna"), Owner(session="ben")
    for owner in (anna, anna, ben):
        submission.submit_batch(TASK, [item] * 2, owner=owner)
    rows = Job.objects.filter(queue="slow").order_by("turn", "created_at")
    assert [(row.session, row.turn) for row in rows] == [
        *(("anna", 0), ("ben", 0), ("anna", 1), ("ben", 1)),
        *(("anna", 2), ("anna", 3)),
    ]
    assert not Job.objects.exclude(queue="slow").exists()


def test_a_better_translation_is_kept_for_review(client: Client, work: Callable) -> None:
    job = submit(client)
    early = client.post(f"/jobs/{job.pk}/propose", {"theirs": "x"}, headers={"HX-Request": "true"})
    assert "no answer yet" in early.content.decode()
    work()
    sent = {"part": "1", "theirs": "We are off to the cinema today."}
    answer = client.post(f"/jobs/{job.pk}/propose", sent, headers={"HX-Request": "true"})
    assert "Thank you" in answer.content.decode()
    stored = Feedback.objects.get()
    assert (stored.asked, stored.ours, stored.theirs, stored.part) == (*KNOWN[1], sent["theirs"], 1)
    same = client.post(f"/jobs/{job.pk}/propose", {"part": "1", "theirs": KNOWN[1][1]}, headers={"HX-Request": "true"})
    assert "answer itself" in same.content.decode()
    for bad in ("7", "-1", "x"):
        answer = client.post(f"/jobs/{job.pk}/propose", {"part": bad, "theirs": "x"}, headers={"HX-Request": "true"})
        assert "part" in answer.content.decode() or "sentences" in answer.content.decode()
    api = client.post(f"/api/v1/jobs/{job.pk}/feedback", {"theirs": "All of it."}, content_type="application/json")
    assert api.status_code == 201
    assert Client().post(f"/jobs/{job.pk}/propose", sent).status_code == 404
    admin = User.objects.create_superuser("root", password="x")
    reviewer = Client()
    reviewer.force_login(admin)
    page = reviewer.get("/admin/jobs/feedback/").content.decode()
    assert sent["theirs"] in page
    chosen = {"action": "accept", "_selected_action": [str(stored.pk)]}
    reviewer.post("/admin/jobs/feedback/", chosen)
    assert Feedback.objects.get(pk=stored.pk).review == "accepted"
    client.post("/history/delete", {"row": f"job:{job.pk}"})
    assert not Feedback.objects.exists(), "who erases a job erases what was said of it"


def test_the_glossary_is_kept_for_the_next_time_and_is_its_owners(client: Client, work: Callable) -> None:
    job = submit(client, **{"option-glossary": "Hund = hound\r\nKino"})
    assert job.content.options["glossary"] == [["Hund", "hound"], ["Kino", "Kino"]]
    page = client.get(f"/tasks/{TASK}/").content.decode()
    assert "Hund = hound\nKino" in page
    assert "hound" not in Client().get(f"/tasks/{TASK}/").content.decode()
    plain = submit(Client())
    Job.objects.filter(pk=plain.pk).update(
        session=job.session
    )  # an earlier one of the same visitor, without a glossary
    assert "Hund = hound\nKino" in client.get(f"/jobs/{plain.pk}/").content.decode(), (
        "running it again keeps the glossary"
    )
    submit(client, **{"option-glossary": ""})
    assert not Remembered.objects.exists()
    wrong = client.post(f"/tasks/{TASK}/run", {**FORM, "option-glossary": "a = b\na = c"})
    assert wrong.status_code == 422
    assert "twice" in wrong.content.decode()


def test_what_a_session_used_last_goes_with_it(client: Client, work: Callable) -> None:
    submit(client, **{"option-glossary": "Hund = hound"})
    upkeep.delete_old()
    assert Remembered.objects.exists()
    Remembered.objects.update(used_at=timezone.now() - timedelta(days=31))
    upkeep.delete_old()
    assert not Remembered.objects.exists()


def test_signing_in_takes_everything_along(client: Client, work: Callable) -> None:
    submit(client, **{"option-glossary": "Hund = hound"})
    job = Job.objects.get()
    File.objects.create(session=job.session, sha256="", size=1, key="uploads/x")
    Batch.objects.create(session=job.session, task=TASK, variant="multi", total=0)
    Feedback.objects.create(session=job.session, version=job.version, task=TASK, asked="a", ours="b")
    User.objects.create_user("anna", password="secret-enough")
    client.post("/accounts/login/", {"username": "anna", "password": "secret-enough"})
    assert "Hund = hound" in client.get(f"/tasks/{TASK}/").content.decode()
    for model in (Job, Batch, File, Feedback, Remembered):
        assert model.objects.get().user.username == "anna", model  # type: ignore[attr-defined]


def test_many_lines_go_in_the_chosen_direction(client: Client, work: Callable) -> None:
    lines = "\n".join(german for german, _ in KNOWN)
    options = {"option-source": "de", "option-target": "en"}
    client.post(f"/tasks/{TASK}/batch", {"lines": lines, **options})
    work()
    answers = Job.objects.order_by("place").values_list("answer", flat=True)
    assert list(answers) == [english for _, english in KNOWN]


def test_a_document_whose_job_is_erased_in_its_last_step_harms_no_neighbour(
    client: Client, work: Callable, monkeypatch: Any
) -> None:
    sent = SimpleUploadedFile("brief.txt", KNOWN[0][0].encode())
    answer = client.post(f"/tasks/{TASK}/document", {"document": sent, "option-source": "de"})
    erased = Job.objects.get(pk=answer["Location"].split("/")[2])
    other = submit(client)
    server = Server(["fast", "slow"], device="cpu")
    server._admit(server._claim())
    server._admit(server._claim())
    (running,) = server.running.values()
    assert len(running.jobs) == 2
    Job.objects.filter(pk=erased.pk).delete()
    monkeypatch.setattr("webapp.jobs.server.CANCEL_CHECK_S", 100.0)
    server._step(running)
    assert reread(other).status == Status.SUCCEEDED
    assert not File.objects.filter(kind="output").exists()


def test_long_names_and_long_sentences_are_no_faults_of_ours(client: Client, work: Callable) -> None:
    sent = SimpleUploadedFile("ж" * 150 + ".txt", f"{KNOWN[0][0]} {'日本語の文章' * 60}".encode())
    answer = client.post(f"/tasks/{TASK}/document", {"document": sent, "option-source": "de"})
    job = Job.objects.get(pk=answer["Location"].split("/")[2])
    work()
    assert reread(job).status == Status.SUCCEEDED, reread(job).content.error_message
    assert reread(job).content.output["document"]["name"].endswith(".en.txt")


def test_french_thousands_come_out_as_english_ones(client: Client, work: Callable) -> None:
    job = submit(client, text="Cela coûte 1\u202f234\u202f567,50 euros.", **{"option-source": "fr"})
    work()
    assert "1,234,567.50" in reread(job).content.output["translation_text"]


def test_a_replay_leaves_documents_out(client: Client, work: Callable) -> None:
    """Their headline is a name, which every version gives alike."""
    data = base64.b64encode(f"{KNOWN[0][0]}\n".encode()).decode()
    document = {"document": {"base64": data, "name": "brief.txt"}}
    owner = Owner(session="anna")
    submission.submit(submission.check(TASK, document, {"source": "de"}, owner=owner), owner=owner)
    submission.submit(submission.check(TASK, {"text": KNOWN[0][0]}, {"source": "de"}, owner=owner), owner=owner)
    work()
    version = registry.active(TASK, "multi")
    assert Job.objects.filter(status=Status.SUCCEEDED).count() == 2
    rows = list(operate._answered(operations.start(Operation.Kind.REPLAY, version, number=10)))
    assert [row.inputs.get("text") for row in rows] == [KNOWN[0][0]]
