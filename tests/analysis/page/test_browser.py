"""report.html in a real browser, from a file, without network."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from src.analysis.page.contents import page_of
from src.analysis.page.written import to_html
from src.analysis.table import load_runs
from tests.made_up import write_run, write_tuned

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
pytestmark = pytest.mark.skipif(not (CHROMIUM.exists() and DRIVER.exists()), reason=f"there is no {CHROMIUM}")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser that shows the report on a sweep with a hostile level."""
    folder = tmp_path_factory.mktemp("page")
    write_tuned(folder / "tuned")
    evil = {"optim": "<script>document.title = 'evil'</script>", "lr": 1e-7}
    for seed in (1, 2, 3):
        write_run(folder / "tuned", 0.4 + 0.01 * seed, seed=seed, validation=0.4, curve=[0.1, 0.4], **evil)
    file = folder / "report.html"
    file.write_text(to_html(page_of("tuned", load_runs(folder / "tuned"), targets=[0.5])), encoding="utf-8")
    options = webdriver.ChromeOptions()
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"):
        options.add_argument(flag)
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    try:
        driver.get(file.as_uri())
        yield driver
    finally:
        driver.quit()


def column(browser: Any, table: int, head: str) -> list[str]:
    """The texts of a column."""
    script = """
        const table = document.querySelectorAll("table")[arguments[0]];
        const place = [...table.tHead.rows[0].cells].findIndex(cell => cell.textContent.trim() === arguments[1]);
        return [...table.tBodies[0].rows].map(row => row.cells[place].textContent);
    """
    return browser.execute_script(script, table, head)


def head(browser: Any, table: int, name: str) -> Any:
    heads = browser.find_elements("css selector", "table")[table].find_elements("css selector", "th button")
    return next(head for head in heads if head.text.strip() == name)


def test_no_table_of_a_usual_sweep_scrolls_sideways(browser: Any) -> None:
    browser.set_window_size(1400, 1000)
    script = "return [...document.querySelectorAll('.wide')].map(table => [table.scrollWidth, table.clientWidth])"
    assert all(wanted <= there for wanted, there in browser.execute_script(script))


def test_the_page_opens_without_a_complaint(browser: Any) -> None:
    assert browser.title == "tuned" and browser.get_log("browser") == []
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert all(name.startswith("data:") for name in loaded)
    shown = """const done = arguments[0];
        for (const image of document.images) image.loading = "eager";
        Promise.all([...document.images].map(image => image.decode())).then(
            () => done([...document.images].map(image => image.naturalWidth)));"""
    pictures = browser.execute_async_script(shown)
    assert len(pictures) >= 5 and all(width > 100 for width in pictures)


def test_a_click_or_a_key_on_a_head_sorts_numbers_as_numbers(browser: Any) -> None:
    rates = column(browser, 1, "lr")
    assert len(rates) == 7 and rates != sorted(rates, key=float)
    head(browser, 1, "lr").click()
    assert column(browser, 1, "lr") == sorted(rates, key=float)
    head(browser, 1, "lr").send_keys("\ue007")  # Enter
    assert column(browser, 1, "lr") == sorted(rates, key=float, reverse=True)
    cell = browser.execute_script("return document.activeElement.parentElement.getAttribute('aria-sort')")
    assert cell == "descending"
    head(browser, 1, "optim").click()
    assert column(browser, 1, "optim") == sorted(column(browser, 1, "optim"))


@pytest.mark.parametrize("width", [1920, 1366, 400])
def test_no_link_to_a_section_is_cut_off(browser: Any, width: int) -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    script = "return [...document.querySelectorAll('nav a')].map(link => link.getBoundingClientRect().right)"
    ends = browser.execute_script(script)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert len(ends) > 8 and max(ends) <= width


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_is_legible_in_light_and_dark_wide_and_narrow(browser: Any, width: int) -> None:
    lightness = {}
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        colours = browser.execute_script(
            "const style = getComputedStyle(document.body); return [style.backgroundColor, style.color]"
        )
        lightness[scheme] = [sum(map(int, colour[4:-1].split(","))) / 3 for colour in colours]
    assert lightness["light"][0] > 230 and lightness["light"][1] < 60
    assert lightness["dark"][0] < 40 and lightness["dark"][1] > 200
    # Nothing but tables and figures, each within its own frame, is wider than the screen.
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_a_point_of_a_figure_says_what_it_is_and_sections_are_linked(browser: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    browser.set_window_size(1280, 900)
    spot = browser.find_elements("css selector", ".conclusion .spot")[0]
    ActionChains(browser).move_to_element(spot).perform()
    tip = browser.find_element("id", "tip")
    assert tip.is_displayed() and tip.text.startswith("optim adam against sgd: ")
    # Each spot lies on its figure.
    outside = """return [...document.querySelectorAll(".spot")].filter(spot => {
        const [a, b] = [spot.getBoundingClientRect(), spot.parentElement.querySelector("img").getBoundingClientRect()];
        return a.width && (a.right < b.left || a.left > b.right || a.bottom < b.top || a.top > b.bottom);
    }).length"""
    assert browser.execute_script(outside) == 0
    links = browser.find_elements("css selector", "nav a")
    assert all(browser.find_elements("css selector", link.get_attribute("hash")) for link in links)
    folded = browser.find_elements("css selector", "main > details[id]")[-1]
    browser.execute_script("location.hash = arguments[0]", folded.get_attribute("id"))
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert not browser.find_elements("css selector", "details:not([open])")
