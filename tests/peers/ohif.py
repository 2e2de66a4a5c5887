"""
OHIF, a real viewer, in headless Chromium on a real Orthanc with DICOMweb: what a surgeon's screen makes of results.

OHIF is the built package `@ohif/app` of npm, unpacked: the environment variable GENU_OHIF names its folder dist.
Chromium draws with WebGL in software.
"""

import contextlib
import http.server
import os
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import ActionChains, Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.peers.archives import HOST, program_path

Edges = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels of the page."""

SHOTS = os.environ.get("GENU_SHOTS", "")
DIST = Path(os.environ.get("GENU_OHIF", ""))
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
DICOMWEB = next((path for path in map(Path, ("/usr/share/orthanc/plugins", "/usr/lib/orthanc")) if path.is_dir()), None)

needs_ohif = pytest.mark.skipif(
    not (DIST / "index.html").is_file()
    or not CHROMIUM
    or not DRIVER
    or not program_path("Orthanc")
    or DICOMWEB is None,
    reason="GENU_OHIF names no folder of OHIF, or chromium, chromedriver or orthanc-dicomweb is missing",
)

CONFIGURATION = """
window.config = {
  routerBasename: "/", extensions: [], modes: [], showStudyList: true, investigationalUseDialog: { option: "never" },
  defaultDataSourceName: "orthanc",
  dataSources: [{
    namespace: "@ohif/extension-default.dataSourcesModule.dicomweb", sourceName: "orthanc",
    configuration: {
      friendlyName: "Orthanc", name: "orthanc", qidoRoot: "/dicom-web", wadoRoot: "/dicom-web",
      wadoUriRoot: "/dicom-web", imageRendering: "wadors", thumbnailRendering: "wadors", enableStudyLazyLoad: true,
      supportsWildcard: true, bulkDataURI: { enabled: true, relativeResolution: "studies" },
      omitQuotationForMultipartRequest: true, qidoSupportsIncludeField: false, supportsFuzzyMatching: false,
    },
  }],
};
"""


class _Pages(http.server.SimpleHTTPRequestHandler):
    """The viewer's files, and /dicom-web of the archive under the same origin."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *given: Any, archive: str, **named: Any) -> None:
        self.archive = archive
        super().__init__(*given, directory=str(DIST), **named)

    def log_message(self, *_: object) -> None:
        """Nothing: the tests' output is the tests'."""

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")  # the decoders want shared memory
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def do_GET(self) -> None:
        """A file, the archive's answer, or for every other path the application itself."""
        path = self.path.partition("?")[0]
        if path.startswith("/dicom-web"):
            self._pass_on()
        elif path == "/app-config.js":
            self._answer(200, "text/javascript", CONFIGURATION.encode())
        else:
            if path == "/" or not (DIST / path.lstrip("/")).is_file():
                self.path = "/index.html"
            super().do_GET()

    def do_POST(self) -> None:
        """The viewer asks nothing but the archive by POST."""
        self._pass_on()

    def _pass_on(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        request = urllib.request.Request(
            self.archive + self.path, data=self.rfile.read(length) if length else None, method=self.command
        )
        request.add_header("Forwarded", f"host={self.headers['Host']};proto=http")  # for the addresses in answers
        for name in ("Accept", "Content-Type"):
            if name in self.headers:
                request.add_header(name, self.headers[name])
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                self._answer(answer.status, answer.headers.get("Content-Type", ""), answer.read())
        except urllib.error.HTTPError as error:
            self._answer(error.code, "text/plain", error.read())

    def _answer(self, status: int, kind: str, content: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)


@contextmanager
def viewer(archive: str) -> Iterator[str]:
    """Serve OHIF on top of an archive's DICOMweb until the block ends; yields its address."""
    server = http.server.ThreadingHTTPServer((HOST, 0), partial(_Pages, archive=archive))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(10)


def browser(profile: Path) -> Chrome:
    """A Chromium that draws WebGL in software and records the page's errors."""
    options = ChromeOptions()
    options.binary_location = CHROMIUM or ""
    drawing = ("use-gl=angle", "use-angle=swiftshader", "enable-unsafe-swiftshader", "ignore-gpu-blocklist")
    for argument in (
        "headless=new",
        "no-sandbox",
        "no-first-run",
        "disable-sync",
        "window-size=1500,950",
        "disable-dev-shm-usage",
        *drawing,
    ):
        options.add_argument(f"--{argument}")
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(DRIVER))
    script = "localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']));"
    script += "window.faults = []; const log = console.error; console.error = (...all) => {"
    script += "window.faults.push(all.map(String).join(' ')); log(...all); };"
    script += "window.addEventListener('error', e => window.faults.push(String(e.message)));"
    script += "window.addEventListener('unhandledrejection', e => window.faults.push(String(e.reason)));"
    driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    return driver


class Screen:
    """A study that is open in the viewer."""

    def __init__(self, driver: Chrome, address: str, study: str) -> None:
        self.driver = driver
        driver.get(f"{address}/viewer?StudyInstanceUIDs={study}")
        self.until(lambda: self.thumbnails())

    def until(self, holds: Any, seconds: float = 60) -> None:
        """Wait until that holds, whatever the page does meanwhile."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(Exception):
                if holds():
                    return
            time.sleep(0.3)
        raise AssertionError(f"not within {seconds} s; the page says: {self.text()[:600]}")

    def thumbnails(self) -> Sequence[WebElement]:
        """What the study has to open: pictures, and documents without one."""
        return self.driver.find_elements(By.CSS_SELECTOR, '[data-cy^="study-browser-thumbnail"]')

    def open(self, label: str) -> None:
        """Double-click the thumbnail with that label."""
        self.until(lambda: any(label in thumbnail.text for thumbnail in self.thumbnails()))
        chosen = next(thumbnail for thumbnail in self.thumbnails() if label in thumbnail.text)
        self.driver.execute_script(
            "arguments[0].dispatchEvent(new MouseEvent('dblclick', {bubbles: true}))",
            chosen.find_element(By.CSS_SELECTOR, "*"),
        )

    def press(self, *labels: str) -> bool:
        """Press the button with one of those words, if there is one by now."""
        for button in self.driver.find_elements(By.TAG_NAME, "button"):
            if button.text.strip() in labels:
                button.click()
                return True
        return False

    def text(self) -> str:
        """Everything that is written on the page, and over the picture."""
        return str(
            self.driver.execute_script(
                "return document.body.innerText + [...document.querySelectorAll('svg text')]"
                ".map(e => ' ' + e.textContent).join('')"
            )
        )

    def outlines(self) -> list[Edges]:
        """Where each outline lies that is drawn over the picture."""
        return self._edges_of("svg.svg-layer polyline")

    def canvas(self) -> Edges:
        """Where the picture's canvas lies."""
        return self._edges_of("canvas")[0]

    def _edges_of(self, selector: str) -> list[Edges]:
        script = "return [...document.querySelectorAll(arguments[0])].map(e => e.getBoundingClientRect())"
        script += ".map(r => [r.left, r.top, r.right, r.bottom])"
        return [tuple(edges) for edges in self.driver.execute_script(script, selector)]

    def picture(self) -> bytes:
        """A screenshot of the page (PNG)."""
        return self.driver.get_screenshot_as_png()

    def complaints(self) -> list[str]:
        """Errors that the page did not catch."""
        faults = list(self.driver.execute_script("return window.faults || []"))
        return faults + [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE" and "Uncaught" in entry["message"]
        ]

    def segments(self) -> list[str]:
        """The names of the segments in the panel on the right."""
        rows = self.driver.find_elements(By.CSS_SELECTOR, '[data-cy="data-row"]')
        return [row.text.split("\n")[-1] for row in rows]

    def show_segments(self) -> None:
        """Open the panel on the right that lists them."""
        self.until(lambda: self.driver.find_elements(By.CSS_SELECTOR, '[data-cy="panelSegmentation-btn"]'))
        self.driver.find_element(By.CSS_SELECTOR, '[data-cy="panelSegmentation-btn"]').click()
        self.until(self.segments)

    def fade(self) -> None:
        """Pull the slider of opacity to its lower end."""
        sliders = '[role="slider"], input[type="range"]'
        script = (
            "const all = [...document.querySelectorAll('button')].filter(e => e.innerText.trim() == 'Segmentations');"
        )
        script += "return all[0].querySelector('svg') || all[0].parentElement.querySelector('svg')"
        ActionChains(self.driver).move_to_element(self.driver.execute_script(script)).click().perform()
        self.until(lambda: self.driver.find_elements(By.CSS_SELECTOR, sliders), 10)
        self.driver.find_elements(By.CSS_SELECTOR, sliders)[0].send_keys(Keys.HOME)

    def switch_segments(self, to: str) -> None:
        """Switch every segment's own eye to "Hide" or "Show"."""
        rows = self.driver.find_elements(By.CSS_SELECTOR, '[data-cy="data-row"]')
        for at in range(len(rows)):
            row = self.driver.find_elements(By.CSS_SELECTOR, '[data-cy="data-row"]')[at]
            ActionChains(self.driver).move_to_element(row).perform()
            eye = row.find_element(By.CSS_SELECTOR, '[data-cy="data-row-visibility-toggle"]')
            if eye.get_attribute("aria-label") == to:
                ActionChains(self.driver).move_to_element(eye).click().perform()
            time.sleep(0.5)
        film = self.driver.find_element(By.CSS_SELECTOR, "canvas")  # away, or figures lie over the film
        ActionChains(self.driver).move_to_element_with_offset(film, 0, 300).perform()
        time.sleep(1)

    def save_screenshot(self, name: str) -> None:
        """Save a screenshot of the page in the folder that GENU_SHOTS names, for the documents."""
        if SHOTS:
            Path(SHOTS).mkdir(exist_ok=True)
            (Path(SHOTS) / f"{name.replace(' ', '-')}.png").write_bytes(self.picture())
