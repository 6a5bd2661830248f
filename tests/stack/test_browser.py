"""A person at the page, in a real Chromium."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import docx
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.translator import KNOWN

from .browsing import BROWSER, clean, shoot
from .conftest import ROOT, TASK, Stack

pytestmark = BROWSER
SCENES = ROOT / "mlcore" / "examples" / "scenes"


def test_a_review_is_typed_and_its_label_read(stack: Stack, page: Page, request: pytest.FixtureRequest) -> None:
    page.goto(f"{stack.url}/tasks/{TASK}/")
    page.fill("#text", "A wonderful, warm film. I loved every minute.")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".answer")).to_contain_text("Positive", timeout=30_000)
    assert "/jobs/" in page.url
    expect(page.locator("[data-strip][data-opened]")).to_be_visible()  # before, its cells take no focus
    page.locator(".cell", has_text="wonderful").focus()
    expect(page.locator("[data-detail-place]")).to_contain_text("positive")
    page.keyboard.press("ArrowRight")
    hint = page.locator("[data-detail-place] strong")
    page.keyboard.press("Enter")
    expect(page.locator(".cell.pinned")).to_have_count(1)
    expect(hint).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator(".cell.pinned")).to_have_count(0)
    expect(hint).to_have_count(0)
    page.keyboard.press("Enter")
    clean(page)
    shoot(page, "result", request)
    page.reload()
    expect(page.locator(".answer")).to_contain_text("Positive")
    page.goto(f"{stack.url}/history/")
    expect(page.locator(".rows")).to_contain_text("A wonderful, warm film")
    clean(page)
    shoot(page, "history", request)


def test_a_press_makes_one_job_and_what_goes_wrong_is_said(stack: Stack, page: Page) -> None:
    sent: list[str] = []
    page.on("request", lambda asked: sent.append(asked.url) if asked.url.endswith("/run") else None)
    page.goto(f"{stack.url}/tasks/{TASK}/")
    page.fill("#text", "A dull film.")
    page.route("**/run", lambda route: route.fulfill(status=404))
    page.click("[data-run]")
    expect(page.locator("#trouble")).to_contain_text("may have been deleted")
    page.unroute("**/run")
    sent.clear()
    page.locator("[data-run]").focus()
    page.evaluate("const run = document.querySelector('[data-run]'); run.click(); run.click()")
    expect(page.locator(".answer")).to_be_visible(timeout=30_000)
    expect(page.locator("#trouble")).to_be_hidden()
    assert len(sent) == 1
    assert page.evaluate("document.activeElement.hasAttribute('data-run')"), "the keyboard stays where it was"
    sent.clear()
    page.dblclick("[data-run]", delay=100)  # the first is answered before the second comes
    page.keyboard.down("Enter")
    for _ in range(3):
        page.wait_for_timeout(100)
        page.keyboard.down("Enter")  # as a key that is held down repeats
    page.keyboard.up("Enter")
    page.wait_for_timeout(200)
    assert len(sent) == 2, "one for the double click, one for the key"
    page.fill("#text", "")
    page.click("[data-run]")
    expect(page.locator('[aria-invalid="true"]')).to_be_focused()
    expect(page.locator(".answer")).to_be_visible()  # what was answered before is no error's business
    large = {"name": "a.txt", "mimeType": "text/plain", "buffer": b"x" * ((5 << 20) + 1)}
    page.set_input_files("#file", large)  # type: ignore[arg-type]
    assert "larger than 5 MB" in page.evaluate("document.querySelector('#file').validationMessage")


def test_a_job_waits_for_a_worker_is_cancelled_and_another_answered(
    stack: Stack, page: Page, request: pytest.FixtureRequest
) -> None:
    stack.supervisor.stopProcess("fast")
    try:
        page.goto(f"{stack.url}/tasks/{TASK}/")
        page.fill("#text", "To be cancelled.")
        page.click("[data-run]")
        expect(page.locator("#result")).to_contain_text("No worker is running", timeout=15_000)
        clean(page)
        shoot(page, "no-worker", request)
        page.click("text=Cancel")
        expect(page.locator("#result")).to_contain_text("Cancelled")
        page.fill("#text", "What a great day.")
        page.click("[data-run]")
        expect(page.locator("#result")).to_contain_text("No worker is running", timeout=15_000)
    finally:
        stack.supervisor.startProcess("fast")
    expect(page.locator(".answer")).to_be_visible(timeout=60_000)


def test_many_lines_get_a_table(stack: Stack, page: Page, request: pytest.FixtureRequest) -> None:
    page.goto(f"{stack.url}/tasks/{TASK}/")
    page.fill("#lines", "A joy from start to end.\nA waste of an evening.\n" * 5)
    sent: list[str] = []
    page.on("request", lambda asked: sent.append(asked.url) if asked.method == "POST" else None)
    page.dblclick("text=Read all")
    expect(page.locator("#result")).to_contain_text("10 of 10 done", timeout=60_000)
    assert len(sent) == 1, "a double click is one batch"
    clean(page)
    shoot(page, "batch", request)


def test_pages_are_accessible(stack: Stack, page: Page, request: pytest.FixtureRequest) -> None:
    for name, path in (
        ("home", "/"),
        ("task", f"/tasks/{TASK}/"),
        ("login", "/accounts/login/"),
        ("missing", "/nothing/"),
    ):
        page.goto(stack.url + path)
        clean(page)
        shoot(page, name, request)


def test_an_empty_text_is_refused_at_its_field(stack: Stack, page: Page, request: pytest.FixtureRequest) -> None:
    page.goto(f"{stack.url}/tasks/{TASK}/")
    page.click("[data-run]")
    expect(page.locator("#text-error")).to_contain_text("nothing to read")
    expect(page.locator("#text")).to_be_focused()
    clean(page)
    shoot(page, "refused", request)


def test_a_photo_is_described_and_shows_where_was_looked(
    tiny_stack: Stack, page: Page, request: pytest.FixtureRequest
) -> None:
    page.goto(f"{tiny_stack.url}/tasks/photos/")
    clean(page)
    shoot(page, "photos-empty", request)
    page.set_input_files("#image", SCENES / "field.webp")
    card = page.locator(".photo-card")
    expect(card.locator(".strip")).to_be_visible(timeout=30_000)
    expect(card.locator(".tags li")).to_have_count(6, timeout=30_000)
    expect(card.locator(".photo img")).to_have_js_property("naturalWidth", 320)
    expect(page.locator("[data-strip][data-opened]").first).to_be_visible()
    page.locator(".cell").first.focus()
    expect(card.locator("[data-detail-place]")).to_contain_text("looked")
    expect(card.locator("canvas.on")).to_have_count(1)
    card.locator("text=Where it looked, word by word").click()
    expect(card.locator(".maps svg").first).to_be_visible()
    clean(page)
    shoot(page, "photo", request)
    page.locator(".cell").first.focus()
    page.keyboard.press("Escape")
    expect(card.locator("canvas.on")).to_have_count(0)
    page.locator("h1").click()
    page.locator(".cell").first.hover()
    expect(card.locator("canvas.on")).to_have_count(1)
    page.locator("h1").hover()
    expect(card.locator("canvas.on")).to_have_count(0)
    other = card.locator("[data-choice]").last
    other.click()
    expect(card.locator("[data-copy]")).to_have_attribute("data-copy", other.inner_text())
    page.reload()
    expect(page.locator(".photo-card .strip")).to_be_visible()
    page.set_input_files("#image", SCENES / "beach.webp")
    expect(page.locator(".photo-card")).to_have_count(2)
    expect(page.locator(".photo-card .tags")).to_have_count(2, timeout=30_000)


def test_twenty_photos_at_once_one_of_them_bad(
    tiny_stack: Stack, page: Page, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    for number in range(19):
        Image.new("RGB", (64, 48), (12 * number, 90, 255 - 12 * number)).save(tmp_path / f"{number:02}.png")
    (tmp_path / "19.jpg").write_bytes((ROOT / "README.md").read_bytes())
    page.goto(f"{tiny_stack.url}/tasks/photos/")
    page.set_input_files("#image", sorted(tmp_path.iterdir()))
    expect(page.locator(".photo-card")).to_have_count(20)
    expect(page.locator(".photo-card .state.danger")).to_contain_text("no photo", timeout=60_000)
    expect(page.locator(".photo-card .strip")).to_have_count(19, timeout=90_000)
    expect(page.locator(".photo-card .tags")).to_have_count(19, timeout=90_000)
    expect(page.locator("[data-live]")).to_have_count(0)
    page.locator(".state.danger >> xpath=..").locator("[data-remove]").click()
    expect(page.locator(".photo-card")).to_have_count(19)


def test_my_photos_are_filtered_and_deleted(tiny_stack: Stack, page: Page, request: pytest.FixtureRequest) -> None:
    page.goto(f"{tiny_stack.url}/tasks/photos/")
    page.set_input_files("#image", [SCENES / "field.webp", SCENES / "beach.webp"])
    expect(page.locator(".photo-card .strip")).to_have_count(2, timeout=30_000)
    expect(page.locator(".photo-card .tags")).to_have_count(2, timeout=30_000)
    page.click("text=My photos")
    expect(page.locator(".gallery > li")).to_have_count(2)
    expect(page.locator(".gallery img").first).to_have_js_property("naturalWidth", 320)
    clean(page)
    shoot(page, "gallery", request)
    word = page.locator(".gallery > li > p").first.inner_text().split()[0].strip(".")
    page.fill("#q", word)
    page.click("text=Filter")
    for text in page.locator(".gallery > li > p").all_inner_texts():
        assert word.lower() in text.lower()
    page.fill("#q", "zebra crossing the moon")
    page.click("text=Filter")
    expect(page.locator("text=No photo fits")).to_be_visible()
    page.click("text=Show all")
    options = page.locator("#tag option").all()
    if len(options) > 1:  # an untrained tagger may find nothing likely
        page.select_option("#tag", index=1)
        page.click("text=Filter")
        expect(page.locator(".gallery > li").first).to_be_visible()
        page.goto(f"{tiny_stack.url}/photos/")
    page.locator(".gallery input[type=checkbox]").first.check()
    page.click("text=Delete the selected")
    expect(page.locator(".gallery > li")).to_have_count(1)


def test_a_photo_is_dropped_and_pasted(tiny_stack: Stack, page: Page) -> None:
    page.goto(f"{tiny_stack.url}/tasks/photos/")
    for number, kind in enumerate(("drop", "paste"), start=1):
        page.evaluate(
            """async ([kind, picture]) => {
                const bytes = Uint8Array.from(atob(picture), (c) => c.charCodeAt(0));
                const data = new DataTransfer();
                data.items.add(new File([bytes], "x.webp", { type: "image/webp" }));
                const event = kind === "drop"
                    ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
                    : new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
                document.querySelector("#drop").dispatchEvent(event);
            }""",
            [kind, base64.b64encode((SCENES / "snow.webp").read_bytes()).decode()],
        )
        expect(page.locator(".photo-card .strip")).to_have_count(number, timeout=30_000)


def test_a_text_is_translated_swapped_and_its_words_followed(
    tiny_stack: Stack, page: Page, request: pytest.FixtureRequest
) -> None:
    (one, first), (_, _), (two, second) = KNOWN
    page.goto(f"{tiny_stack.url}/tasks/translation/")
    clean(page)
    shoot(page, "translation-empty", request)
    page.fill("#text", f"{one}\n\n- {two}")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".strip")).to_contain_text(first, timeout=30_000)
    expect(page.locator(".strip")).to_contain_text(second)
    expect(page.locator("[data-detected]")).to_contain_text("Deutsch")
    expect(page.locator("#result")).to_contain_text("Done in")  # the last answer takes the place of the parts
    expect(page.locator("[data-strip][data-opened]")).to_be_visible()  # before, its cells take no focus
    page.locator(".cell", has_text="dog").focus()
    expect(page.locator("[data-detail-place]")).to_contain_text("from")
    expect(page.locator("[data-origin] .source")).to_contain_text("Hund")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.locator(".cell.pinned")).to_have_text("sleeps")
    clean(page)
    shoot(page, "translation", request)
    page.click("text=Sentence by sentence")
    page.locator(".sentences .propose summary").first.click()
    page.locator(".sentences .proposal textarea").first.fill("The hound is asleep in the garden.")
    page.locator(".sentences .proposal button").first.click()
    expect(page.locator(".sentences [role=status]")).to_contain_text("Thank you")
    clean(page)
    choice = page.locator(".sentences .choice").first
    expect(choice).to_be_visible()
    choice.click()
    expect(page.locator(".strip")).to_contain_text(choice.inner_text())
    expect(page.locator("[data-copy]")).to_have_attribute("data-copy", re.compile(re.escape(choice.inner_text())))
    with page.expect_download() as started:
        page.click("#result a[download]")
    assert choice.inner_text() in Path(started.value.path()).read_text(encoding="utf-8")
    choice.click()
    expect(page.locator(".strip .chosen")).to_have_count(0)
    expect(page.locator("#result a[download]")).to_have_attribute("href", re.compile("^/jobs/"))
    page.click("[data-swap]")
    expect(page.locator("#option-source")).to_have_value("en")
    expect(page.locator("#option-target")).to_have_value("de")
    expect(page.locator("#text")).to_have_value(re.compile(re.escape(first)))
    page.keyboard.press("Control+Enter")
    expect(page.locator(".strip")).to_contain_text(one, timeout=30_000)
    page.fill("#text", "Typed since.")
    page.click("[data-swap]")
    expect(page.locator("#text")).to_have_value("Typed since.")
    page.select_option("#option-target", "en")
    expect(page.locator("#option-source")).not_to_have_value("en")


def test_an_example_on_an_earlier_results_page_has_its_own_languages(tiny_stack: Stack, page: Page) -> None:
    page.goto(f"{tiny_stack.url}/tasks/translation/")
    page.fill("#text", KNOWN[0][0])
    page.select_option("#option-source", "en")
    page.select_option("#option-target", "es")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#result")).to_contain_text("Done in", timeout=30_000)
    page.reload()
    page.locator("[data-example]").nth(1).click()
    expect(page.locator("#option-source")).to_have_value("auto")
    expect(page.locator("#option-target")).to_have_value("en")


def test_files_are_translated_and_downloaded(
    tiny_stack: Stack, page: Page, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    german, english = KNOWN[0]
    subtitles = tmp_path / "film.srt"
    subtitles.write_text(f"1\n00:00:01,000 --> 00:00:02,000\n{german}\n", encoding="utf-8")
    letter = docx.Document()
    letter.add_paragraph(german)
    letter.save(str(tmp_path / "brief.docx"))
    for path in (subtitles, tmp_path / "brief.docx"):
        page.goto(f"{tiny_stack.url}/tasks/translation/")
        page.set_input_files("#document", path)
        page.locator("section:has(#document) button").click()
        expect(page.locator("#result .answer")).to_have_text(f"{path.stem}.en{path.suffix}", timeout=60_000)
        clean(page)
        shoot(page, f"translation-{path.suffix[1:]}", request)
        with page.expect_download() as started:
            page.click("#result a.button")
        saved = tmp_path / started.value.suggested_filename
        started.value.save_as(saved)
        if path.suffix == ".srt":
            assert saved.read_text(encoding="utf-8").strip() == subtitles.read_text().strip().replace(german, english)
        else:
            assert [paragraph.text for paragraph in docx.Document(str(saved)).paragraphs] == [english]
    page.goto(f"{tiny_stack.url}/tasks/translation/")
    (tmp_path / "bad.docx").write_bytes(b"no archive")
    page.set_input_files("#document", tmp_path / "bad.docx")
    page.locator("section:has(#document) button").click()
    expect(page.locator("#document-error")).to_contain_text("no .docx")
    clean(page)


def test_a_story_is_begun_stopped_branched_and_still_there(
    tiny_stack: Stack, page: Page, request: pytest.FixtureRequest
) -> None:
    page.goto(f"{tiny_stack.url}/tasks/text-generation/")
    clean(page)
    shoot(page, "writing-empty", request)
    page.fill("#prompt", "The fog lay thick upon the river.")
    page.evaluate("document.querySelector('#option-max_new_tokens').value = 1000")
    page.click("[data-run]")
    expect(page.locator("#result [data-writings] .strip")).to_have_text(re.compile(r"(\S\s*){12}"), timeout=30_000)
    expect(page.locator("#result [data-waiting]")).to_have_text(re.compile(r"\d+ of 1000 tokens"))
    page.locator("#result form button").click()
    expect(page.locator("#result")).to_contain_text("What was written is kept", timeout=15_000)
    expect(page.locator(".cell").first).to_be_visible()
    address = page.url
    expect(page.locator("[data-strip][data-opened]").first).to_be_visible()
    page.locator(".cell").nth(1).focus()
    expect(page.locator("[data-detail-place]")).to_contain_text("%")
    expect(page.locator("[data-branch]").first).to_be_visible()
    clean(page)
    shoot(page, "writing", request)
    page.evaluate("document.querySelector('#option-max_new_tokens').value = 30")
    branch = page.locator("[data-branch]").first.get_attribute("data-branch")
    page.locator("[data-branch]").first.click()
    page.wait_for_url(lambda url: url != address)  # until then the stopped text is what the page shows
    expect(page.locator("#result")).to_contain_text(re.compile(r"\b30 tokens"), timeout=30_000)
    assert page.input_value("#prompt") == f"The fog lay thick upon the river.{branch}"
    page.goto(address)
    expect(page.locator(".cell").first).to_be_visible()
    page.reload()
    expect(page.locator("#result")).to_contain_text("What was written is kept")
    page.click("[data-again]")
    expect(page.locator("#result")).to_contain_text("tokens, ended", timeout=60_000)
    page.evaluate("document.querySelector('#option-num_return_sequences').value = 3")
    page.click("[data-run]")
    expect(page.locator("[data-written]")).to_have_count(3, timeout=30_000)
    third = page.locator("[data-written]").nth(2)
    expect(third.locator("[data-strip][data-opened]")).to_be_visible()
    third.locator(".cell").nth(5).hover()
    third.locator(".cell").first.focus()
    expect(third.locator("[data-detail-place]")).to_contain_text("%")
    clean(page)
    shoot(page, "writing-three", request)
    wanted = third.locator("[data-branch]").first.get_attribute("data-branch") or "no branch"
    page.evaluate("scrollBy(0, 60)")  # which moves other cells under the resting pointer: they do not open
    page.wait_for_timeout(300)
    expect(third.locator("[data-branch]").first).to_have_attribute("data-branch", wanted)
    third.locator("[data-branch]").first.click()
    expect(page.locator("#prompt")).to_have_value(re.compile(re.escape(wanted) + "$"))
    page.goto(address)
    page.click("[data-again]")
    page.wait_for_url(lambda url: url != address)
    page.go_back()  # to a page that works, not to a picture of it
    expect(page.locator("#result")).to_contain_text("What was written is kept")
    page.fill("#option-temperature", "0.5")
    expect(page.locator('output[for="option-temperature"]')).to_have_text("0.5")
    page.click("[data-again]")
    page.wait_for_url(lambda url: url != address)


def test_a_person_makes_a_key_for_a_program_and_ends_it(
    tiny_stack: Stack, page: Page, request: pytest.FixtureRequest
) -> None:
    name = f"anna-{request.node.callspec.id}"
    person = (
        f"from django.contrib.auth.models import User; User.objects.create_user({name!r}, password='a long phrase')"
    )
    tiny_stack.manage("shell", "-c", person)
    page.goto(f"{tiny_stack.url}/account/")
    page.fill("[name=username]", name)
    page.fill("[name=password]", "a long phrase")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    page.fill("#key-name", "a script that reads the news every morning")
    page.fill("#daily_limit", "1000")
    page.get_by_role("button", name="Make a key").click()
    key = page.locator("#made-title ~ pre code").inner_text()
    answer = page.request.get(f"{tiny_stack.url}/api/v1/limits", headers={"Authorization": f"Bearer {key}"})
    assert answer.ok
    clean(page)
    shoot(page, "account", request)
    page.get_by_role("button", name="Revoke the key").click()
    expect(page.locator("table")).to_contain_text("revoked")
    answer = page.request.get(f"{tiny_stack.url}/api/v1/limits", headers={"Authorization": f"Bearer {key}"})
    assert answer.status == 401
