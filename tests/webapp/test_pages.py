"""Pages: they show, they refuse at the field, they keep to their policy."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from django.conf import settings as django_settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone

from webapp import database
from webapp.jobs.models import Batch, Feedback, Job
from webapp.playground.panels import tint_class

from .conftest import TASK, decide, inputs

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("version")]
RUN, MANY = f"/tasks/{TASK}/run", f"/tasks/{TASK}/batch"
HTMX = {"HX-Request": "true"}


@pytest.mark.parametrize(
    "path", ["/", f"/tasks/{TASK}/", "/tasks/text-classification/", "/history/", "/accounts/login/"]
)
def test_pages_show_and_keep_to_the_policy(client: Client, path: str) -> None:
    response = client.get(path)
    text = response.content.decode()
    assert response.status_code == 200
    assert "default-src 'self'" in response["Content-Security-Policy"]
    for inline in ("<style", " style=", "onclick=", "<script>", "http://", "https://"):
        assert inline not in text, inline


def test_a_job_is_shown_where_it_has_its_address(client: Client, run_jobs: Callable[[], None]) -> None:
    response = client.post(RUN, inputs("A good film, isn't it?"), headers=HTMX)
    (job,) = Job.objects.all()
    assert response["HX-Push-Url"] == f"/jobs/{job.pk}/"
    assert response["HX-Retarget"] == "#result"  # the panel that asked may be another by then
    assert "No worker is running" in response.content.decode()
    run_jobs()
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    assert "by sentiment-analysis/en@1" in page
    assert ">isn&#x27;t</span>" in page
    assert "A good film, isn&#x27;t it?</textarea>" in page


def test_without_script_the_form_leads_to_the_result(client: Client) -> None:
    response = client.post(RUN, inputs())
    assert response.status_code == 302
    assert client.get(response["Location"]).status_code == 200


@pytest.mark.parametrize("headers", [HTMX, {}])
def test_an_error_stands_at_its_field_and_keeps_what_was_typed(client: Client, headers: dict[str, str]) -> None:
    text = "<b>" + "x" * 20_001
    page = client.post(RUN, inputs(text), headers=headers).content.decode()
    assert 'aria-invalid="true"' in page
    assert "20,004 characters; at most 20,000" in page
    assert "&lt;b&gt;xxx" in page
    assert not Job.objects.exists()


def test_a_nul_or_nothing_is_refused_at_its_field(client: Client) -> None:
    for text in ("a\0b", " ", ""):
        page = client.post(RUN, inputs(text), headers=HTMX)
        assert page.status_code == 200
        assert page["HX-Reswap"] == "none", "what is shown of another job stays"
        assert 'id="result"' not in page.content.decode()
        assert 'aria-invalid="true"' in page.content.decode()


def test_a_csv_and_a_txt_are_read(client: Client, run_jobs: Callable[[], None]) -> None:
    table = SimpleUploadedFile("t.csv", 'id;text\n1;"good; really"\n2;bad\n'.encode("utf-8-sig"))
    response = client.post(MANY, {"file": table})
    assert response.status_code == 302
    run_jobs()
    page = client.get(response["Location"]).content.decode()
    assert "2 of 2 done" in page and "good; really" in page
    client.post(MANY, {"file": SimpleUploadedFile("t.txt", b"one\n\ntwo\n")})
    assert sorted(Batch.objects.values_list("total", flat=True)) == [2, 2]


def test_quotes_in_a_csv_are_kept_wherever_they_come_first(client: Client) -> None:
    plain = "".join(f"{i},A plain row of some length.\n" for i in range(300))
    table = f'id,text\n{plain}301,"He called it ""great, really"" and left"\n302, "two, too"\n'
    client.post(MANY, {"file": SimpleUploadedFile("t.csv", table.encode())})
    texts = [job.content.inputs["text"] for job in Job.objects.select_related("content")]
    assert len(texts) == 302
    assert {'He called it "great, really" and left', "two, too"} < set(texts)


@pytest.mark.parametrize(
    ("upload", "words"),
    [
        (("t.csv", b"text\ngood\nbad, very bad\n"), "Line 3 has more columns"),
        (("t.csv", b'id,text\n1,"Great" he said\n2,two\n'), "cannot be read"),
        (("t.csv", b'id,text\n1,"Unclosed\n2,two\n'), "cannot be read"),
        (("t.csv", b"a,b\n1,2\n"), "no column “text”"),
        (("t.csv", bytes(range(256)) * 8), "not text in UTF-8"),
        (("t.csv", b"text\n\0\n"), "binary"),
        (("t.exe", b"MZ"), "Choose a .txt file"),
        (("t.txt", b" \n \n"), "no lines yet"),
        (("t.txt", b"x\n" * 1_001), "1,001 lines"),
    ],
)
def test_a_strange_file_is_refused_in_words(client: Client, upload: tuple[str, bytes], words: str) -> None:
    response = client.post(MANY, {"file": SimpleUploadedFile(*upload)})
    assert response.status_code == 422
    assert words in response.content.decode()
    assert not Batch.objects.exists()


def test_history_filters_and_deletes(client: Client) -> None:
    for text in ("apples", "pears"):
        client.post(RUN, inputs(text))
    client.post(MANY, {"lines": "one\ntwo"})
    page = client.get("/history/").content.decode()
    assert all(word in page for word in ("apples", "pears", "2 texts"))
    assert "pears" not in client.get("/history/", {"q": "apples"}).content.decode()
    assert "fits this filter" in client.get("/history/", {"status": "failed"}).content.decode()
    job = Job.objects.get(summary="apples")
    client.post("/history/delete", {"row": [f"job:{job.pk}", "job:nonsense", "x"]})
    assert "apples" not in client.get("/history/").content.decode()


def test_an_unavailable_model_is_said_on_the_page(client: Client, version: Any) -> None:
    type(version).objects.update(fault="digest")
    assert "is unavailable" in client.get(f"/tasks/{TASK}/").content.decode()
    assert "is unavailable" in client.get("/").content.decode()
    assert "is unavailable" in client.post(RUN, inputs(), headers=HTMX).content.decode()


def test_the_first_administrator_is_made_once(client: Client, settings: Any, django_user_model: Any) -> None:
    from webapp.playground.setup import setup_path

    path = setup_path()
    assert path and setup_path() == path
    assert settings.SETUP_TOKEN_FILE.stat().st_mode & 0o077 == 0
    assert client.get("/setup/nonsense/").status_code == 404
    form = {"username": "root", "password1": "a long passphrase", "password2": "a long passphrase"}
    assert client.post(path, form).status_code == 302
    assert django_user_model.objects.get().is_superuser
    assert setup_path() is None
    assert Client().get(path).status_code == 404
    for page in ("registry/modelversion", "registry/activation", "jobs/job", "jobs/batch", "jobs/worker"):
        assert client.get(f"/admin/{page}/").status_code == 200


def test_an_administrator_switches_cancels_and_requeues(
    admin_client: Client, version: Any, run_jobs: Callable[[], None]
) -> None:
    admin_client.post(RUN, inputs())
    (job,) = Job.objects.all()
    assert admin_client.get(f"/admin/jobs/job/{job.pk}/change/").status_code == 200

    def act(place: str, action: str, pk: Any) -> str:
        form = {"action": action, "_selected_action": [str(pk)]}
        return admin_client.post(f"/admin/{place}/", form, follow=True).content.decode()

    assert "1 jobs cancelled" in act("jobs/job", "cancel", job.pk)
    assert "1 jobs queued again" in act("jobs/job", "requeue", job.pk)
    run_jobs()
    assert Job.objects.get().status == "succeeded"
    assert "already active" in decide(admin_client, version.pk, "activate", "again")
    assert "no earlier version" in decide(admin_client, version.pk, "roll-back", "no reason")


def test_health_says_what_is_missing(client: Client) -> None:
    assert client.get("/healthz/live").json() == {"status": "alive"}
    response = client.get("/healthz/ready")
    assert response.status_code == 503
    assert response.json()["checks"]["redis"] == "does not answer"
    assert response.json()["checks"]["worker:fast"] == "not running"


@pytest.mark.parametrize(
    ("tint", "name"), [(0.0, ""), (0.05, ""), (0.2, "for-1"), (1.0, "for-5"), (-1.0, "against-5"), (-0.4, "against-2")]
)
def test_tints_have_five_steps_a_side(tint: float, name: str) -> None:
    assert tint_class(tint) == name


def test_failure_pages_are_pages(client: Client) -> None:
    response = client.get("/nothing/")
    assert response.status_code == 404
    assert "There is nothing here" in response.content.decode()


def test_a_failure_page_is_shown_while_the_database_is_away_and_keeps_no_connection(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise OperationalError("the connection is closed")

    held = Mock(in_atomic_block=False, vendor="postgresql")
    monkeypatch.setattr(database, "connection", held)
    with connection.execute_wrapper(away):
        response = client.get("/nothing/")
    assert response.status_code == 404
    assert "There is nothing here" in response.content.decode()
    held.close.assert_called_once_with()


def test_only_tasks_with_an_installed_version_are_shown(client: Client) -> None:
    shown = client.get("/").content.decode()
    assert "Sentiment" in shown
    assert "Photos" not in shown


def test_a_result_is_shared_only_when_asked_and_until_it_is_ended(
    client: Client, run_jobs: Callable[[], None], settings: Any
) -> None:
    client.post(f"/tasks/{TASK}/run", {"text": "A shared secret."})
    job = Job.objects.get()
    assert client.post(f"/jobs/{job.pk}/share", headers={"HX-Request": "true"}).status_code == 404, "no answer yet"
    run_jobs()
    stranger = Client()
    assert stranger.get(f"/jobs/{job.pk}/").status_code == 404
    assert stranger.post(f"/jobs/{job.pk}/share").status_code == 404
    part = client.post(f"/jobs/{job.pk}/share", headers={"HX-Request": "true"}).content.decode()
    address = part.split('href="')[1].split('"')[0]
    settings.ACCESS = "signed-in"
    page = stranger.get(address)
    assert page.status_code == 200
    text = page.content.decode()
    assert "A shared secret." in text
    for forbidden in ("/cancel", "/unshare", f"/jobs/{job.pk}/"):
        assert forbidden not in text
    settings.ACCESS = "open"
    again = client.post(f"/jobs/{job.pk}/share", headers={"HX-Request": "true"}).content.decode()
    assert address in again
    assert "Stop sharing" in client.get(f"/jobs/{job.pk}/").content.decode()
    client.post(f"/jobs/{job.pk}/unshare", headers={"HX-Request": "true"})
    assert stranger.get(address).status_code == 404
    assert stranger.get("/shared/nonsense/").status_code == 404


def test_people_say_whether_an_answer_was_right(client: Client, version: Any, run_jobs: Callable[[], None]) -> None:
    client.post(RUN, inputs(), headers=HTMX)
    (job,) = Job.objects.all()
    place = f"/jobs/{job.pk}/judge"
    assert "no answer yet" in client.post(place, {"right": "yes"}, headers=HTMX).content.decode()
    run_jobs()
    assert "Was this right?" in client.get(f"/jobs/{job.pk}/").content.decode()
    assert "Thank you" in client.post(place, {"right": "yes"}, headers=HTMX).content.decode()
    assert "what would have been right" in client.post(place, {"right": "no"}, headers=HTMX).content.decode()
    assert "yes or no" in client.post(place, {"right": "perhaps"}, headers=HTMX).content.decode()
    (row,) = Feedback.objects.all()
    assert (row.job, row.right, row.theirs, row.version) == (job, False, "", job.version)
    client.post(f"/jobs/{job.pk}/propose", {"theirs": "neutral"}, headers=HTMX)
    assert "Say one of these" in client.post(f"/jobs/{job.pk}/propose", {"theirs": "so-so"}).content.decode()
    assert [row.theirs for row in Feedback.objects.order_by("pk")] == ["", "neutral"]
    assert Client().post(place, {"right": "yes"}).status_code == 404


def test_without_script_people_judge_too(client: Client, run_jobs: Callable[[], None]) -> None:
    client.post(RUN, inputs(), headers=HTMX)
    (job,) = Job.objects.all()
    place = f"/jobs/{job.pk}/judge"
    early = client.post(place, {"right": "yes"})
    assert early.status_code == 422
    run_jobs()
    assert "Thank you." in client.post(place, {"right": "yes"}, follow=True).content.decode()
    asked = client.post(place, {"right": "no"}).content.decode()
    assert "<main" in asked
    assert "what would have been right" in asked
    refused = client.post(f"/jobs/{job.pk}/propose", {"theirs": "so-so"})
    assert refused.status_code == 422
    assert "<main" in refused.content.decode()
    assert ">so-so</textarea>" in refused.content.decode()
    thanked = client.post(f"/jobs/{job.pk}/propose", {"theirs": "neutral"}, follow=True).content.decode()
    assert "An administrator will read it" in thanked


def test_who_opens_an_address_to_post_to_is_led_to_its_page(client: Client) -> None:
    for path in (RUN, MANY, f"/tasks/{TASK}/document"):
        assert client.get(path)["Location"] == f"/tasks/{TASK}/"
        assert client.put(path).status_code == 405
    assert client.get("/tasks/photos/run")["Location"] == "/tasks/photos/"


@pytest.mark.parametrize("path", ["/", f"/tasks/{TASK}/", "/history/", "/photos/"])
def test_whoever_asks_for_the_head_alone_gets_it(client: Client, version: Any, path: str) -> None:
    assert client.head(path).status_code == client.get(path).status_code == 200


def test_a_browser_that_comes_back_stays_known(client: Client, version: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client.post(RUN, inputs(), headers=HTMX)
    name = django_settings.SESSION_COOKIE_NAME
    assert name not in client.post(RUN, inputs(), headers=HTMX).cookies, "once a day is enough"
    tomorrow = timezone.now() + timedelta(days=1)
    monkeypatch.setattr(timezone, "now", lambda: tomorrow)
    assert client.get("/history/").cookies[name]["max-age"] == django_settings.SESSION_COOKIE_AGE
    assert name not in client.post(RUN, inputs(), headers=HTMX).cookies
    assert name not in Client().get("/history/").cookies, "who sent nothing gets none"


def test_the_list_says_what_each_box_selects(client: Client, version: Any) -> None:
    client.post(RUN, inputs("A film of its own."), headers=HTMX)
    client.post(MANY, {"lines": "one\ntwo"})
    page = client.get("/history/").content.decode()
    assert 'aria-label="Select: A film of its own., ' in page
    assert 'aria-label="Select: 2 texts, ' in page
