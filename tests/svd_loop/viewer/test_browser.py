"""The viewer in a real browser: open, filter, drill down, next, keys, dark, phone, export, hostile text.

One browser for all of them. Skipped where no Chromium with its driver is installed (Debian: chromium, chromium-driver).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from svd_loop.contracts import JobResult
from svd_loop.ledger import Ledger
from svd_loop.report import write_page
from svd_loop.viewer.export import export_pages
from tests.svd_loop.ledger.judged_rounds import commit_judged
from tests.svd_loop.ledger.samples import StubPolicy, config, items, solve
from tests.svd_loop.viewer.conftest import HOSTILE, serving

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1280,900"
)

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="Chromium and its driver are not installed")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for option in (*OPTIONS.split(), f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


def is_there(browser: webdriver.Chrome, part: str) -> bool:
    """Whether a document whose address contains `part` is loaded."""
    there = """return location.href.includes(arguments[0]) && document.readyState === 'complete'
        && document.body !== null && document.body.children.length > 0"""
    return bool(browser.execute_script(there, part))


def arrives(browser: webdriver.Chrome, part: str) -> None:
    """Wait for a page: on a busy machine the driver returns before the new document is there."""
    WebDriverWait(browser, 60, poll_frequency=0.02).until(lambda driver: is_there(browser, part))


def visit(browser: webdriver.Chrome, address: str) -> None:
    browser.get(address)
    arrives(browser, address)


def find(browser: webdriver.Chrome, by: str, name: str) -> WebElement:
    wait = WebDriverWait(browser, 60, poll_frequency=0.02)
    return wait.until(lambda driver: driver.find_element(by, name))


def press(browser: webdriver.Chrome, key: str) -> None:
    find(browser, By.TAG_NAME, "body").send_keys(key)


def words(browser: webdriver.Chrome, selector: str) -> list[str]:
    read = "return [...document.querySelectorAll(arguments[0])].map((one) => one.innerText)"
    return [str(text) for text in browser.execute_script(read, selector)]  # at once: a live page may change meanwhile


def overflow(browser: webdriver.Chrome) -> int:
    return int(browser.execute_script("return document.documentElement.scrollWidth - innerWidth"))


def requests(browser: webdriver.Chrome) -> set[str]:
    """Addresses that the pages asked for since the last call."""
    events = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    return {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}


def test_from_the_first_page_to_a_vote_by_links(browser: webdriver.Chrome, served: str) -> None:
    visit(browser, served)
    assert "50.0 (10.0–90.0)" in find(browser, By.CSS_SELECTOR, "table.cards").text
    find(browser, By.LINK_TEXT, "round 1").click()
    find(browser, By.PARTIAL_LINK_TEXT, "Prompts").click()
    arrives(browser, "/prompts")
    assert len(words(browser, ".list .item")) == 50
    find(browser, By.CSS_SELECTOR, ".item[href*='/bidi']").click()
    assert "U+202E" in find(browser, By.CSS_SELECTOR, ".question").text
    find(browser, By.LINK_TEXT, "prompts").click()
    find(browser, By.CSS_SELECTOR, "a[rel=next]").click()
    arrives(browser, "after=")
    assert words(browser, ".list .item")[-1].startswith("split")


def test_a_filter_keeps_its_prompts_and_their_neighbours(browser: webdriver.Chrome, served: str) -> None:
    visit(browser, f"{served}/round/1/prompts")
    find(browser, By.CSS_SELECTOR, "select[name=stage] option[value=factuality]").click()
    arrives(browser, "?stage=factuality")
    field = find(browser, By.NAME, "votes")
    field.send_keys("*i*", Keys.ENTER)
    arrives(browser, "votes=")
    assert [row.split()[0] for row in words(browser, ".list .item")] == ["odd"]
    visit(browser, f"{served}/round/1/prompts?outcome=mixed")
    assert [row.split()[0] for row in words(browser, ".list .item")] == ["mixed"]
    visit(browser, f"{served}/round/1/prompt/odd?stage=factuality")
    press(browser, "k")
    arrives(browser, "/prompt/mixed?stage=factuality")
    assert "decided" in find(browser, By.CSS_SELECTOR, "#c0 .cast.decided").text
    assert words(browser, "#c1 .lineage") and not words(browser, "#c0 .lineage")


def test_keys_walk_a_list_and_samples(browser: webdriver.Chrome, served: str) -> None:
    visit(browser, f"{served}/round/1/prompts")
    press(browser, "j")
    browser.switch_to.active_element.send_keys("j")
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    arrives(browser, "/prompt/bidi")
    press(browser, Keys.ARROW_RIGHT)
    arrives(browser, "/prompt/bomb")
    press(browser, "j")
    arrives(browser, "/prompt/code")
    assert words(browser, ".question .k") == ["def", "return"]
    press(browser, "r")
    arrives(browser, "raw=1")
    assert not words(browser, ".question .k") and "```python" in find(browser, By.CSS_SELECTOR, ".question").text
    press(browser, "?")
    assert find(browser, By.ID, "help").is_displayed()
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    press(browser, "u")
    arrives(browser, "/round/1/prompts")
    press(browser, "/")
    assert browser.switch_to.active_element.get_attribute("name") == "text"


@pytest.mark.parametrize("id", HOSTILE)
def test_hostile_text_is_text(browser: webdriver.Chrome, served: str, id: str) -> None:
    browser.get_log("browser")
    visit(browser, f"{served}/round/1/prompt/{id}")
    assert browser.title.startswith(id)  # no script changed it
    assert not browser.find_elements(By.CSS_SELECTOR, "main script, main img, main b.x, .text [onerror]")
    assert "<b>the judge" in find(browser, By.CSS_SELECTOR, ".cast").text
    assert overflow(browser) <= 0
    assert browser.get_log("browser") == []  # no error, and nothing for the policy to refuse


def test_nothing_is_asked_of_other_hosts(browser: webdriver.Chrome, served: str) -> None:
    requests(browser)
    for path in ("/", "/round/1", "/round/1/prompt/script", "/round/1/prompt/latex"):
        visit(browser, f"{served}{path}")
    own = ("chrome", "data:,", "about:blank")  # the browser's own pages: its first one may load when the test starts
    asked = {urlsplit(url).netloc for url in requests(browser) if not url.startswith(own)}
    assert asked == {urlsplit(served).netloc}


def test_dark_follows_the_system_and_the_switch(browser: webdriver.Chrome, served: str) -> None:
    def colour() -> str:
        return str(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))

    seen = {}
    for theme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": theme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        visit(browser, served)
        seen[theme] = colour()
    assert seen["light"] != seen["dark"]
    press(browser, "t")
    assert colour() == seen["light"]
    visit(browser, f"{served}/round/1")  # the choice is kept
    assert colour() == seen["light"]
    browser.execute_script("localStorage.clear()")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_nothing_scrolls_sideways_on_a_phone(
    browser: webdriver.Chrome, served: str, tmp_path: Path, result: JobResult
) -> None:
    report = write_page(tmp_path / "report.html", result, {"job": {"name": "x" * 500}})
    metrics = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    paths = ("/", "/round/1", "/round/1/prompts", "/round/1/prompt/mixed", "/round/1/prompt/long-line", "/reply/1")
    wide = {}
    for path in (*paths, "/round/1/held-out", "/replies"):
        visit(browser, f"{served}{path}")
        wide[path] = browser.execute_script("return document.documentElement.scrollWidth")
    visit(browser, report.as_uri())
    wide["report"] = browser.execute_script("return document.documentElement.scrollWidth")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert set(wide.values()) == {400}, wide
    assert overflow(browser) <= 0  # the report at 1,280


def test_a_page_follows_the_running_job(browser: webdriver.Chrome, job: Path, tmp_path: Path) -> None:
    folder = tmp_path / "jobs" / "sample"
    shutil.copytree(job, folder)
    with Ledger.open(folder, config()) as ledger, serving(folder) as address:
        visit(browser, address)
        assert len(words(browser, "table.cards tbody tr")) == 3
        commit_judged(ledger, 3, {"new": ["yyyy"]})
        wait = WebDriverWait(browser, 60, poll_frequency=0.1)
        wait.until(lambda driver: len(words(driver, "table.cards tbody tr")) == 4)
        ledger.record(items([solve("newer", 0, 4)], StubPolicy(3)))
        wait.until(lambda driver: words(driver, "#progress .chip") == ["solver 1"])
        assert words(browser, "#live") == ["working"]


def test_an_export_is_read_without_a_server(browser: webdriver.Chrome, job: Path, tmp_path: Path) -> None:
    export_pages(job, tmp_path / "one.html")
    export_pages(job, tmp_path / "pages", samples=9)
    browser.get_log("browser")
    visit(browser, (tmp_path / "one.html").as_uri())
    assert browser.title == "sample · svd-loop"
    find(browser, By.CSS_SELECTOR, "#round-1-prompt-mixed summary").click()
    assert find(browser, By.CSS_SELECTOR, "#round-1-prompt-mixed-c0 .decided").is_displayed()
    press(browser, "t")  # the script runs under the page's own policy
    assert browser.execute_script("return document.documentElement.dataset.theme") == "dark"
    visit(browser, (tmp_path / "pages" / "index.html").as_uri())
    find(browser, By.LINK_TEXT, "round 1").click()
    find(browser, By.PARTIAL_LINK_TEXT, "Prompts").click()
    find(browser, By.CSS_SELECTOR, ".item").click()
    assert find(browser, By.CSS_SELECTOR, ".candidate .cast").is_displayed()
    assert browser.get_log("browser") == []
