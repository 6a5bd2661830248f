"""An operator at the admin, in a real Chromium: from an uploaded archive to the record of the switch."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from mlcore.bundle import Bundle
from tests.conftest import make_bundle
from tests.webapp.test_quarantine import zipped

from .browsing import BROWSER, narrow, opened, picture
from .conftest import TASK, Stack, until

pytestmark = BROWSER
PEOPLE = """
from django.contrib.auth.models import Group, User
for name in ("viewer", "operator"):
    person = User.objects.create_user(name, password="a long passphrase", is_staff=True)
    person.groups.add(Group.objects.get(name=name))
"""
STATE = """
from webapp.registry.models import ModelVersion
print(list(ModelVersion.objects.values("pk", "status", "retired_at", "wanted_at")))
"""


def sign_in(page: Page, stack: Stack, name: str) -> None:
    page.goto(f"{stack.url}/admin/")
    page.fill("[name=username]", name)
    page.fill("[name=password]", "a long passphrase")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Queues")).to_be_visible()


def upload(page: Page, stack: Stack, data: bytes) -> None:
    page.goto(f"{stack.url}/admin/jobs/operation/add/")
    page.set_input_files("[name=archive]", {"name": "bundle.zip", "mimeType": "application/zip", "buffer": data})
    page.get_by_role("button", name="Start").click()


def finished(page: Page, *words: str) -> None:
    """Load the page of the operation just started again until it shows these words."""
    page.wait_for_url("**/change/")
    until(lambda: page.reload() and all(word in page.inner_text("#content") for word in words))


def start(page: Page, stack: Stack, kind: str, version: str, labelled: bytes, other: str = "") -> None:
    page.goto(f"{stack.url}/admin/jobs/operation/add/?kind={kind}")
    page.select_option("[name=version]", label=version)
    if other:
        page.select_option("[name=other]", label=other)
    page.set_input_files("[name=labelled]", {"name": "dev.jsonl", "mimeType": "text/plain", "buffer": labelled})
    page.get_by_role("button", name="Start").click()
    finished(page, "done", "accuracy")


def confirm(page: Page, name: str, reason: str) -> None:
    page.get_by_role("link", name=name, exact=True).click()
    page.locator("#dialog [name=reason]").fill(reason)
    with page.expect_navigation():
        page.locator("#dialog").get_by_role("button", name=name).click()


def test_an_operator_installs_judges_switches_and_is_on_record(
    own_saboteur: Stack, browser: Browser, tmp_path: Path, tiny_bundle: Bundle
) -> None:
    own_saboteur.manage("shell", "-c", PEOPLE)
    for number in range(5):
        own_saboteur.post(f"Text {number}.", wait=20)
    first, second = f"{TASK}/en@1", f"{TASK}/en@2"
    bundle = make_bundle(TASK, tmp_path / "two", version=2)
    rows = [
        {"inputs": {"text": f"A film of {n} hours."}, "expected": "positive" if n % 2 else "negative"} for n in range(8)
    ]
    labelled = "\n".join(map(json.dumps, rows)).encode()
    with opened(browser, "desktop", "light") as page:
        sign_in(page, own_saboteur, "operator")
        damaged = make_bundle(TASK, tmp_path / "damaged", version=3)
        (damaged.path / "card.md").write_text("another card")
        for data, words in (
            (zipped(damaged.path), "card.md is damaged"),
            (zipped(bundle.path, extra={"bomb.txt": b"\0" * (401 << 20)}), "unpacks to more"),
            (zipped(bundle.path, extra={"weights.pt": b"x"}), "pickle"),
            (b"no zip at all, and larger than other requests may be" * 600_000, "no zip archive"),
        ):
            upload(page, own_saboteur, data)
            expect(page.locator("#content")).to_contain_text(words)
        page.goto(f"{own_saboteur.url}/admin/registry/modelversion/")
        assert "@2" not in page.inner_text("#content"), "nothing half-installed"
        upload(page, own_saboteur, zipped(bundle.path))
        finished(page, "done", "answered as stored")
        start(page, own_saboteur, "evaluate", first, labelled)
        start(page, own_saboteur, "evaluate", second, labelled)
        start(page, own_saboteur, "compare", second, labelled, other=first)
        assert f"score\t{second}\t{first}" in page.inner_text("#content")
        picture(page, "admin-compare-desktop-light")
        page.goto(f"{own_saboteur.url}/admin/registry/modelversion/")
        page.get_by_role("link", name=second).click()
        page.get_by_role("link", name="Activate", exact=True).click()
        expect(page.locator("#dialog")).to_contain_text("dev.jsonl")
        picture(page, "admin-activate-desktop-light")
        page.keyboard.press("Escape")
        confirm(page, "Activate", "as good, and newer")
        until(lambda: own_saboteur.post("Who answers?", wait=20)["version"] == second)
        page.reload()
        confirm(page, "Roll back", "people complained")
        until(lambda: own_saboteur.post("Who answers now?", wait=20)["version"] == first)
        page.goto(f"{own_saboteur.url}/admin/registry/activation/")
        for words in ("as good, and newer", "people complained", "operator"):
            expect(page.locator("#content")).to_contain_text(words)
        page.goto(f"{own_saboteur.url}/admin/admin/logentry/")
        expect(page.locator("h1, header").first).to_be_visible()
    for size, scheme in (("desktop", "light"), ("desktop", "dark"), ("phone", "dark")):
        with opened(browser, size, scheme) as page:
            sign_in(page, own_saboteur, "operator")
            for name, place in (
                ("dashboard", ""),
                ("versions", "registry/modelversion/"),
                ("version", "registry/modelversion/2/change/"),
                ("jobs", "jobs/job/"),
                ("workers", "jobs/worker/"),
            ):
                page.goto(f"{own_saboteur.url}/admin/{place}")
                narrow(page)
                picture(page, f"admin-{name}-{size}-{scheme}")


def test_a_viewer_reads_and_is_refused(saboteur: Stack, browser: Browser, tmp_path: Path) -> None:
    saboteur.manage("shell", "-c", PEOPLE)
    saboteur.manage("install_bundle", str(make_bundle(TASK, tmp_path, version=2).path))
    with opened(browser, "desktop", "light") as page:
        sign_in(page, saboteur, "viewer")
        expect(page.get_by_role("link", name="Start an operation")).to_have_count(0)
        page.goto(f"{saboteur.url}/admin/registry/modelversion/")
        page.get_by_role("link", name=f"{TASK}/en@2").click()
        expect(page.locator("#content")).to_contain_text("A tiny model")
        for name in ("Activate", "Roll back", "Retire", "Delete"):
            expect(page.get_by_role("link", name=name, exact=True)).to_have_count(0)
        staged, before = page.url, saboteur.manage("shell", "-c", STATE)
        page.goto(f"{saboteur.url}/")  # a form's token, as its pages have it
        token = page.locator("[name=csrfmiddlewaretoken]").first.input_value()
        form = {"csrfmiddlewaretoken": token, "_form_submitted": "on", "reason": "because"}
        assert page.request.post(f"{saboteur.url}/account/email", form=form).status == 422, "the token is good"
        for path in ("activate", "retire", "remove"):
            assert page.request.post(staged.replace("change/", f"{path}/"), form=form).status == 403
        assert saboteur.manage("shell", "-c", STATE) == before
