"""The admin pages in a real browser: signing in, the list, the heat map's switch and slider, retrying."""

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from node.admin.app import serve
from node.ledger import State
from tests.samples import busy_ledger
from tests.samples.busy_ledger import PASSWORD, SampleNode

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.skipif(DRIVER is None, reason="chromedriver is not installed"),
]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SampleNode]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    sample = busy_ledger.busy(busy_ledger.settings_of(tmp_path_factory.mktemp("admin"), port=port))
    stop = threading.Event()
    serving = threading.Thread(
        target=serve, args=(sample.settings, sample.vault, sample.ledger, lambda: True, stop), daemon=True
    )
    serving.start()
    yield sample
    stop.set()
    serving.join(20)
    sample.ledger.close()


def _start(profile: Path, *, scripts: bool) -> Chrome:
    options = ChromeOptions()
    options.binary_location = CHROMIUM or ""
    quiet = ("disable-gpu", "disable-quic", "no-first-run", "disable-background-networking", "disable-component-update")
    for argument in ("headless", "no-sandbox", *quiet, "disable-sync", "window-size=1280,900", "lang=en-GB"):
        options.add_argument(f"--{argument}")
    options.add_argument(f"--user-data-dir={profile}")
    if not scripts:
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return Chrome(options=options, service=Service(DRIVER))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    driver = _start(tmp_path_factory.mktemp("profile"), scripts=True)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def plain_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A browser with scripts switched off."""
    driver = _start(tmp_path_factory.mktemp("plain-profile"), scripts=False)
    yield driver
    driver.quit()


def until(browser: Chrome, holds: Callable[[Chrome], object]) -> None:
    WebDriverWait(browser, 30, poll_frequency=0.1, ignored_exceptions=[Exception]).until(holds)


def by_id(browser: Chrome, name: str) -> WebElement:
    return browser.find_element(By.ID, name)


def address(sample: SampleNode, name: str = "") -> str:
    return f"http://127.0.0.1:{sample.settings.admin.port}/" + (f"radiographs/{sample.uids[name]}" if name else "")


@pytest.fixture
def signed_in(browser: Chrome, sample: SampleNode) -> Chrome:
    return _sign_in(browser, sample)


def _sign_in(browser: Chrome, sample: SampleNode) -> Chrome:
    browser.delete_all_cookies()
    until(browser, lambda b: (b.get(address(sample)), by_id(b, "password"))[1])
    by_id(browser, "password").send_keys(PASSWORD, Keys.ENTER)
    until(browser, lambda b: by_id(b, "live-list"))
    return browser


def browser_errors(browser: Chrome) -> list[str]:
    """Errors in the browser's log, violations of the content security policy included."""
    return [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]


def test_from_signing_in_to_a_radiograph(signed_in: Chrome, sample: SampleNode) -> None:
    """The list names each radiograph, and a click opens its page, with no violation of the policy."""
    browser_errors(signed_in)
    links = {link.get_attribute("href") for link in signed_in.find_elements(By.CSS_SELECTOR, "#live-list a")}
    assert {address(sample, name) for name in sample.uids} <= links
    signed_in.find_element(By.CSS_SELECTOR, f'#live-list a[href$="{sample.uids["delivered"]}"]').click()
    until(signed_in, lambda b: by_id(b, "heat-switch"))
    assert "Kanarienvogel" in by_id(signed_in, "live-facts").text
    assert browser_errors(signed_in) == []


def test_an_undecided_knee_can_be_filtered_and_is_marked(signed_in: Chrome, sample: SampleNode) -> None:
    """The filter lists it alone; its page shows its certainty, and marks the bars of its prediction set."""
    signed_in.get(address(sample) + "?flag=UNDECIDED")
    (row,) = signed_in.find_elements(By.CSS_SELECTOR, "#live-list tbody tr")
    assert "undecided" in row.text
    assert "KL 3 (2 to 3) ?" in row.text
    signed_in.get(address(sample, "delivered"))
    facts = by_id(signed_in, "live-facts").text
    assert "71 % sure. KL 2 to 3 cannot be ruled out (90 % set). KL 2 and KL 3 could not be told apart." in facts
    edges = [
        signed_in.execute_script("return getComputedStyle(arguments[0]).borderLeftColor", name)
        for name in signed_in.find_elements(By.CSS_SELECTOR, ".knee:first-of-type .bars th")
    ]
    assert [edge != "rgba(0, 0, 0, 0)" for edge in edges] == [False, False, True, True, False]


def test_the_heat_map_covers_the_film_and_can_be_switched_off_and_on(signed_in: Chrome, sample: SampleNode) -> None:
    """Both images are loaded and cover the same area; the switch hides the upper one and shows it again."""
    signed_in.get(address(sample, "delivered"))
    film, heat = signed_in.find_elements(By.CSS_SELECTOR, ".film img")
    for picture in (film, heat):
        until(
            signed_in, lambda b, picture=picture: b.execute_script("return arguments[0].naturalWidth", picture) == 800
        )
    assert film.rect == heat.rect
    assert heat.is_displayed()
    switch = by_id(signed_in, "heat-switch")
    switch.send_keys(Keys.SPACE)
    assert not heat.is_displayed()
    assert not by_id(signed_in, "heat-opacity").is_enabled()
    switch.send_keys(Keys.SPACE)
    assert heat.is_displayed()


def test_the_slider_changes_the_opacity_of_the_heat_map(signed_in: Chrome, sample: SampleNode) -> None:
    """The arrow keys move the slider, and the computed opacity follows."""
    signed_in.get(address(sample, "delivered"))
    heat = signed_in.find_element(By.CSS_SELECTOR, ".film .heat")
    slider = by_id(signed_in, "heat-opacity")
    assert float(heat.value_of_css_property("opacity")) == pytest.approx(0.7)
    slider.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert float(heat.value_of_css_property("opacity")) == pytest.approx(0.6)
    assert by_id(signed_in, "heat-percent").text == "60 %"
    slider.send_keys(Keys.HOME)
    assert float(heat.value_of_css_property("opacity")) == 0
    slider.send_keys(Keys.END)
    assert float(heat.value_of_css_property("opacity")) == 1
    assert browser_errors(signed_in) == []


def test_a_retry_changes_the_state(signed_in: Chrome, sample: SampleNode) -> None:
    """The button queues a failed radiograph again, on the page and in the ledger."""
    signed_in.get(address(sample, "failed"))
    assert by_id(signed_in, "live-facts").text.startswith("Failed")
    by_id(signed_in, "retry").click()
    until(signed_in, lambda b: by_id(b, "live-facts").text.startswith("Received"))
    assert "Queued again" in signed_in.find_element(By.CSS_SELECTOR, ".notice.good").text
    entry = sample.ledger.find(sample.uids["failed"])
    assert entry is not None
    assert entry.state is State.RECEIVED


def test_the_list_refreshes_itself(signed_in: Chrome, sample: SampleNode) -> None:
    """A radiograph received while the list is open appears by itself, and the focus stays where it was."""
    signed_in.get(address(sample))
    focused = f"row-{sample.uids['delivered']}"
    signed_in.execute_script("document.getElementById(arguments[0]).focus()", focused)
    uid = busy_ledger.arrive(sample, "latecomer")
    until(signed_in, lambda b: by_id(b, f"row-{uid}"))
    assert signed_in.switch_to.active_element.get_attribute("id") == focused


def test_a_stopped_list_does_not_refresh(signed_in: Chrome, sample: SampleNode) -> None:
    """The Live button stops what changes by itself (WCAG 2.2.2), and starts it again."""
    signed_in.get(address(sample))
    by_id(signed_in, "live-switch").click()
    uid = busy_ledger.arrive(sample, "while stopped")
    # Longer than a refresh takes: a change would appear.
    with pytest.raises(Exception, match="still as it was"):
        WebDriverWait(signed_in, 7).until(lambda b: b.find_elements(By.ID, f"row-{uid}"), message="still as it was")
    by_id(signed_in, "live-switch").click()
    until(signed_in, lambda b: by_id(b, f"row-{uid}"))


def test_a_page_shows_the_film_when_it_has_been_read(signed_in: Chrome, sample: SampleNode) -> None:
    """A radiograph graded while its page is open gets film, heat map and grades without user action."""
    uid = busy_ledger.arrive(sample, "graded meanwhile")
    signed_in.get(f"{address(sample)}radiographs/{uid}")
    assert not signed_in.find_elements(By.CSS_SELECTOR, ".film img")
    busy_ledger.answer(sample, uid)
    until(signed_in, lambda b: len(b.find_elements(By.CSS_SELECTOR, ".film img")) == 2)
    assert "KL 3" in by_id(signed_in, "live-facts").text


def test_markup_in_names_is_not_executed(signed_in: Chrome, sample: SampleNode) -> None:
    """On the hostile radiograph's page no element and no dialog is created from what a sender wrote."""
    for page in (address(sample), address(sample, "hostile")):
        signed_in.get(page)
        assert "onerror=alert" in signed_in.find_element(By.TAG_NAME, "main").text
        assert (
            signed_in.execute_script("return document.querySelectorAll('img[src=x], main script, main b').length") == 0
        )


def test_pages_fit_a_phone(signed_in: Chrome, sample: SampleNode) -> None:
    """A page 360 pixels wide needs no horizontal scrolling."""
    metrics = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    signed_in.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        for page in (address(sample), address(sample, "hostile"), address(sample, "refused")):
            signed_in.get(page)
            assert signed_in.execute_script("return document.documentElement.scrollWidth") <= 360, page
    finally:
        signed_in.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_everything_but_the_slider_works_without_scripts(plain_browser: Chrome, sample: SampleNode) -> None:
    """Signing in, the list that refreshes, the heat map's switch and signing out need no script."""
    _sign_in(plain_browser, sample)
    refresh = plain_browser.find_element(By.CSS_SELECTOR, "head noscript meta").get_attribute("http-equiv")
    assert refresh == "refresh"
    assert not by_id(plain_browser, "live-switch").is_displayed()
    plain_browser.get(address(sample, "delivered"))
    heat = plain_browser.find_element(By.CSS_SELECTOR, ".film .heat")
    assert heat.is_displayed()
    assert not by_id(plain_browser, "heat-opacity").is_displayed()
    by_id(plain_browser, "heat-switch").send_keys(Keys.SPACE)
    assert not heat.is_displayed()
    plain_browser.find_element(By.CSS_SELECTOR, 'form[action="/sign-out"] button').click()
    until(plain_browser, lambda b: by_id(b, "password"))
    plain_browser.get(address(sample, "delivered"))
    assert "Kanarienvogel" not in plain_browser.page_source
