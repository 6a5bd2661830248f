"""The API's contract: answers, errors, who may read what."""

from __future__ import annotations

import csv
import io
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from webapp.api import streams
from webapp.jobs.models import Batch, Job, Status, Worker
from webapp.registry import services as registry
from webapp.registry.models import ModelVersion

from .conftest import TASK, inputs

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("version")]
Post = Callable[..., Any]
JOBS, BATCHES = "/api/v1/jobs", "/api/v1/batches"


@pytest.fixture
def visitor(client: Client) -> Client:
    """A browser that has run something, so that it has a session."""
    client.post(f"/tasks/{TASK}/run", inputs())
    return client


def body(**extra: Any) -> dict[str, Any]:
    return {"task": TASK, "inputs": inputs(), **extra}


def error(response: Any) -> dict[str, Any]:
    assert set(response.json()) == {"error"}
    return response.json()["error"]  # type: ignore[no-any-return]


def test_a_job_reads_as_the_contract_says(post_json: Post, client: Client, run_jobs: Callable[[], None]) -> None:
    created = post_json(JOBS, body())
    assert created.status_code == 202
    job = created.json()
    assert set(job) >= {
        *("id", "task", "variant", "version", "status", "inputs", "options", "output", "partial", "progress"),
        *("error", "position", "eta_s", "attempts", "created_at", "started_at", "finished_at", "model_time_s", "urls"),
    }
    assert (job["status"], job["version"]) == ("queued", "sentiment-analysis/en@1")
    assert set(job["urls"]) == {"get", "cancel", "events", "page"}
    run_jobs()
    done = client.get(job["urls"]["get"]).json()
    assert done["status"] == "succeeded"
    assert {entry["label"] for entry in done["output"]["labels"]} == {"negative", "neutral", "positive"}


def test_the_alias_of_a_task_is_taken(post_json: Post) -> None:
    assert post_json(JOBS, body(task="text-classification")).json()["task"] == TASK


@pytest.mark.parametrize(
    ("raw", "status", "words"),
    [
        ("{", 400, "no JSON"),
        ('{"task": NaN}', 400, "NaN"),
        ('{"task": Infinity}', 400, "Infinity"),
        ("[" * 5_000 + "]" * 5_000, 400, "nested too deep"),
        (b"\xff\xfe", 400, "no JSON"),
        ("[]", 422, ""),
        ("{}", 422, "missing"),
        ("3", 422, ""),
    ],
)
def test_bad_json_gets_its_sentence(client: Client, raw: Any, status: int, words: str) -> None:
    response = client.post(JOBS, raw, content_type="application/json")
    assert response.status_code == status
    assert words in error(response)["message"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"task": "nonsense"}, "task"),
        ({"task": 3}, "task"),
        ({"variant": "xx"}, "variant"),
        ({"inputs": {}}, "text"),
        ({"inputs": {"text": ""}}, "text"),
        ({"inputs": {"text": 3}}, "text"),
        ({"inputs": {"text": "a", "more": 1}}, "more"),
        ({"inputs": "text"}, "inputs"),
        ({"options": {"beam_size": 3}}, "beam_size"),
        ({"inputs": {"text": "x" * 20_001}}, "text"),
        ({"inputs": {"text": "x" * 1_000_000}}, "text"),
        ({"inputs": {"text": "a\0b"}}, "text"),
        ({"inputs": {"text": "\ud800"}}, "text"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(client: Client, change: dict[str, Any], field: str) -> None:
    response = client.post(JOBS, json.dumps(body(**change)), content_type="application/json")
    assert response.status_code == 422
    assert error(response)["field"] == field
    assert error(response)["message"].endswith(".")


def test_other_types_than_json_are_refused(client: Client) -> None:
    assert client.post(JOBS, {"task": TASK}).status_code == 415
    assert client.post(JOBS, "x", content_type="text/plain").status_code == 415


def test_a_body_that_is_too_large_is_refused(client: Client, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000
    response = client.post(JOBS, json.dumps(body(inputs=inputs("x" * 2_000))), content_type="application/json")
    assert response.status_code == 413
    assert "25 MB" in error(response)["message"]


@pytest.mark.parametrize(
    "path", ["jobs/nonsense", "jobs/00000000-0000-4000-8000-000000000000", "batches/1", "nothing-here"]
)
def test_what_is_not_there_is_404_in_json(client: Client, path: str) -> None:
    response = client.get(f"/api/v1/{path}")
    assert response.status_code == 404
    assert error(response)["message"]


def test_the_token_is_the_only_door_to_a_job_nobody_owns(post_json: Post, client: Client) -> None:
    job = post_json(JOBS, body()).json()
    assert "sessionid" not in client.cookies
    assert client.get(f"{JOBS}/{job['id']}").status_code == 404
    assert client.get(f"{JOBS}/{job['id']}?token=nonsense").status_code == 404
    other = post_json(JOBS, body()).json()
    token = other["urls"]["get"].split("token=")[1]
    assert client.get(f"{JOBS}/{job['id']}?token={token}").status_code == 404
    assert client.get(job["urls"]["get"]).status_code == 200
    assert client.get(JOBS).json() == {"jobs": [], "next": None}


def test_nobody_reads_what_is_anothers(visitor: Client) -> None:
    visitor.post(f"/tasks/{TASK}/batch", {"lines": "one\ntwo"})
    job, batch = Job.objects.get(batch=None), Batch.objects.get()
    places = [
        f"/jobs/{job.pk}/",
        f"/jobs/{job.pk}/panel",
        f"{JOBS}/{job.pk}",
        f"{JOBS}/{job.pk}/events",
        f"/api/v1/events?job={job.pk}",
        f"/batches/{batch.pk}/",
        f"/batches/{batch.pk}/panel",
        f"{BATCHES}/{batch.pk}",
        f"{BATCHES}/{batch.pk}/events",
        f"{BATCHES}/{batch.pk}/output.csv",
    ]
    stranger = Client()
    stranger.post(f"/tasks/{TASK}/run", inputs("mine"))
    for place in places:
        assert visitor.get(place).status_code == 200, place
        assert stranger.get(place).status_code == 404, place
        assert Client().get(place).status_code == 404, place
    for place in (f"/jobs/{job.pk}/cancel", f"/batches/{batch.pk}/cancel", f"{JOBS}/{job.pk}/cancel"):
        assert stranger.post(place).status_code == 404, place
    assert stranger.delete(f"{JOBS}/{job.pk}").status_code == 404
    stranger.post("/history/delete", {"row": [f"job:{job.pk}", f"batch:{batch.pk}"]})
    assert Job.objects.filter(pk=job.pk).exists() and Batch.objects.exists()


def test_signing_in_adopts_the_sessions_jobs(visitor: Client, django_user_model: Any) -> None:
    django_user_model.objects.create_user("anna", password="correct horse")
    visitor.post("/accounts/login/", {"username": "anna", "password": "correct horse"})
    assert len(visitor.get(JOBS).json()["jobs"]) == 1
    visitor.post("/accounts/logout/")
    assert visitor.get(JOBS).json()["jobs"] == []


def test_a_cookie_alone_changes_nothing(django_user_model: Any) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(django_user_model.objects.create_user("anna"))
    refused = browser.post(JOBS, json.dumps(body()), content_type="application/json")
    assert refused.status_code == 403
    assert "X-CSRFToken" in error(refused)["message"]
    browser.get(f"/tasks/{TASK}/")
    token = browser.cookies["csrftoken"].value
    allowed = browser.post(JOBS, json.dumps(body()), content_type="application/json", headers={"X-CSRFToken": token})
    assert allowed.status_code == 202


def test_the_same_key_gives_the_same_job(visitor: Client) -> None:
    def post(text: str, key: str = "k1") -> Any:
        raw = json.dumps(body(inputs=inputs(text)))
        return visitor.post(JOBS, raw, content_type="application/json", headers={"Idempotency-Key": key})

    first, again = post("one").json(), post("one").json()
    assert first["id"] == again["id"]
    assert post("one", "k2").json()["id"] != first["id"]
    other = post("two")
    assert other.status_code == 422
    assert error(other)["field"] == "Idempotency-Key"


def test_without_an_owner_a_key_is_ignored_and_this_is_said(post_json: Post) -> None:
    first = post_json(JOBS, body(), **{"Idempotency-Key": "k"}).json()
    second = post_json(JOBS, body(), **{"Idempotency-Key": "k"}).json()
    assert first["id"] != second["id"]
    assert "ignored" in first["notices"][0]


def test_a_full_queue_is_429(post_json: Post, settings: Any) -> None:
    settings.MAX_QUEUED_PER_OWNER = 1
    post_json(JOBS, body())
    response = post_json(JOBS, body())
    assert response.status_code == 429
    assert int(response["Retry-After"]) >= 1
    assert error(response)["message"]


def test_no_model_is_503(post_json: Post, version: Any) -> None:
    type(version).objects.update(fault="damaged")
    response = post_json(JOBS, body())
    assert response.status_code == 503
    assert "sentiment-analysis/en@1" in error(response)["message"]


def test_a_job_that_is_erased_while_its_sender_waits(post_json: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    async def wait_for(pk: uuid.UUID, seconds: float) -> None:
        await Job.objects.filter(pk=pk).adelete()

    monkeypatch.setattr(streams, "wait_for", wait_for)
    gone = post_json(JOBS, body(), Prefer="wait=5")
    assert gone.status_code == 404
    assert "nothing here" in error(gone)["message"]


def test_cancel_and_erase(post_json: Post, client: Client) -> None:
    job = post_json(JOBS, body()).json()
    assert client.post(job["urls"]["cancel"]).json()["status"] == "cancelled"
    assert client.delete(job["urls"]["get"]).status_code == 204
    assert client.get(job["urls"]["get"]).status_code == 404


def test_jobs_are_listed_by_cursor(visitor: Client) -> None:
    for number in range(54):
        visitor.post(f"/tasks/{TASK}/run", inputs(f"text {number}"))
    first = visitor.get(JOBS).json()
    rest = visitor.get(JOBS, {"cursor": first["next"]}).json()
    texts = [job["inputs"]["text"] for job in first["jobs"] + rest["jobs"]]
    assert texts == [*(f"text {n}" for n in reversed(range(54))), "A good film."]
    assert rest["next"] is None
    assert visitor.get(JOBS, {"cursor": "nonsense"}).status_code == 422
    for status in ("\0", "nonsense"):
        assert "Known: queued" in error(visitor.get(JOBS, {"status": status}))["message"]
    assert visitor.get(JOBS, {"status": "running"}).json()["jobs"] == []


def test_a_batch_keeps_its_order_and_names_what_it_refuses(
    post_json: Post, client: Client, run_jobs: Callable[[], None]
) -> None:
    items = [{"inputs": inputs(f"text {n}")} for n in range(20)]
    items[7] = {"inputs": inputs(" ")}
    created = post_json(BATCHES, {"task": TASK, "items": items})
    assert created.status_code == 202
    answer = created.json()
    assert answer["jobs"][7]["error"]["field"] == "text"
    assert [job.get("inputs", {}).get("text") for job in answer["jobs"] if "id" in job] == [
        f"text {n}" for n in range(20) if n != 7
    ]
    run_jobs()
    batch = client.get(answer["batch"]["urls"]["get"]).json()
    assert batch["counts"]["succeeded"] == 19
    rows = list(csv.DictReader(io.StringIO(client.get(batch["urls"]["csv"]).content.decode())))
    assert [row["text"] for row in rows] == [f"text {n}" if n != 7 else "" for n in range(20)]
    assert rows[7]["status"] == "refused"
    assert rows[0]["label"] in ("negative", "neutral", "positive")
    one = next(job for job in answer["jobs"] if "id" in job)
    assert client.get(one["urls"]["get"]).status_code == 200


@pytest.mark.parametrize(("items", "field"), [([], "items"), ([{}] * 1_001, "items"), ("x", "items")])
def test_a_batch_has_its_bounds(post_json: Post, items: Any, field: str) -> None:
    response = post_json(BATCHES, {"task": TASK, "items": items})
    assert response.status_code == 422
    assert error(response)["field"] == field


def test_formulas_do_not_run_in_a_spreadsheet(post_json: Post, client: Client) -> None:
    texts = ["=cmd|' /C calc'!A0", "@SUM(1)", "-1+2", "@user hello", "- a list"]
    batch = post_json(BATCHES, {"task": TASK, "items": [{"inputs": inputs(t)} for t in texts]}).json()["batch"]
    rows = list(csv.DictReader(io.StringIO(client.get(batch["urls"]["csv"]).content.decode())))
    assert [row["text"][:1] == "'" for row in rows] == [True, True, False, False, False]


def test_tasks_come_with_their_schemas(client: Client) -> None:
    (task,) = [task for task in client.get("/api/v1/tasks").json() if task["name"] == TASK]
    assert task["schemas"]["inputs"]["properties"]["text"]["maxLength"] == 20_000
    assert task["available"] and task["licence"] == "for tests"


def test_lists_cost_as_many_queries_however_long_they_are(
    client: Client, post_json: Post, django_assert_max_num_queries: Any
) -> None:
    client.post(f"/tasks/{TASK}/run", {"text": "A session begins."})
    for _ in range(12):
        post_json("/api/v1/jobs", {"task": TASK, "inputs": inputs()})
    items = [{"inputs": inputs(f"Text {number}.")} for number in range(40)]
    with django_assert_max_num_queries(35):
        created = post_json("/api/v1/batches", {"task": TASK, "items": items}).json()
    for _ in range(6):
        post_json("/api/v1/batches", {"task": TASK, "items": items[:1]})
    Worker.objects.create(name="w", host="h", pid=1, queues=["fast"])
    for path, most in (
        ("/api/v1/jobs", 12),
        (f"/batches/{created['batch']['id']}/panel", 12),
        (f"/batches/{created['batch']['id']}/", 12),
        ("/history/", 16),
    ):
        with django_assert_max_num_queries(most):
            assert client.get(path).status_code == 200
    listed = client.get("/api/v1/jobs").json()["jobs"]
    assert [job["position"] for job in listed] == list(range(13, 0, -1))


def test_a_private_server_asks_to_sign_in(client: Client, settings: Any) -> None:
    settings.ACCESS = "signed-in"
    assert client.get(JOBS).status_code == 401
    assert error(client.get(JOBS))["message"]
    assert client.get("/").status_code == 302
    assert client.get("/healthz/live").status_code == 200


def test_the_page_of_a_private_servers_api_leads_people_to_the_door(client: Client, settings: Any) -> None:
    settings.ACCESS = "signed-in"
    assert client.get("/api/v1/docs")["Location"] == "/accounts/login/?next=%2Fapi%2Fv1%2Fdocs"


def test_no_nul_reaches_the_database(post_json: Post, client: Client) -> None:
    """PostgreSQL takes none: a text with one would be a failure of ours."""
    for variant in ("e\0", "\ud800"):
        said = error(post_json(JOBS, body(variant=variant)))["message"]
        assert "no variant" in said
    items = [{"inputs": {"\0": "x"}}, {"inputs": inputs()}]
    made = post_json(BATCHES, {"task": TASK, "items": items})
    assert made.status_code == 202
    assert "\\u0000" not in json.dumps(Batch.objects.get().refused)
    assert client.get("/shared/%00/").status_code == 404


def test_a_batch_is_cancelled_whole(post_json: Post, client: Client) -> None:
    batch = post_json(BATCHES, {"task": TASK, "items": [{"inputs": inputs()}] * 3}).json()["batch"]
    assert client.post(batch["urls"]["cancel"]).json()["counts"]["cancelled"] == 3
    assert Job.objects.filter(status=Status.CANCELLED).count() == 3
    assert client.delete(batch["urls"]["get"]).status_code == 204
    assert not Job.objects.exists()


def test_an_address_says_which_methods_it_takes(client: Client) -> None:
    answer = client.put(JOBS)
    assert (answer.status_code, answer["Allow"]) == (405, "GET, POST")
    assert error(answer)["message"] == "This address does not take PUT; it takes GET, POST."


def test_a_repeat_needs_nothing_that_the_first_one_had(visitor: Client, version: ModelVersion) -> None:
    def post(key: str) -> Any:
        return visitor.post(JOBS, json.dumps(body()), content_type="application/json", headers={"Idempotency-Key": key})

    first = post("k").json()
    registry.mark_faulty(version, "damaged")
    assert post("k").json()["id"] == first["id"]
    assert post("another").status_code == 503
