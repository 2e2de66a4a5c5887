"""The admin web application: what it shows, and that it discloses no patient data."""

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from node.admin.app import serve
from node.admin.radiograph_list import PAGE_SIZE
from node.errors import GenuError
from node.ledger import CardState, ShadowReading, State
from node.settings import Settings
from node.storage import Vault
from tests.paths import ROOT
from tests.samples import busy_ledger
from tests.samples.busy_ledger import HTML, MARKUP, SECRETS, SampleNode, addresses, client_of, csrf_in, sign_in


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SampleNode]:
    sample = busy_ledger.busy(busy_ledger.settings_of(tmp_path_factory.mktemp("admin")))
    yield sample
    sample.ledger.close()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[SampleNode]:
    sample = busy_ledger.empty(busy_ledger.settings_of(tmp_path))
    yield sample
    sample.ledger.close()


@pytest.fixture
def signed_in(sample: SampleNode) -> TestClient:
    client = client_of(sample)
    assert sign_in(client).status_code == 303
    return client


# Security headers and escaping


def test_responses_have_security_headers_and_are_not_cached(sample: SampleNode, signed_in: TestClient) -> None:
    """Every answer has the headers, and no template has anything inline that they forbid."""
    for method, path in [*addresses(signed_in, sample), ("GET", "/nothing"), ("GET", "/static/genu.css")]:
        answer = signed_in.request(method, path, headers=HTML)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == ("no-cache" if path.startswith("/static") else "no-store")
    for template in (ROOT / "node" / "admin" / "templates").iterdir():
        text = template.read_text()
        assert not re.search(r"\sstyle=|\son[a-z]+=|<style|<script(?! src)|javascript:|\|\s*safe|autoescape", text)
        assert "http://" not in text
        assert "https://" not in text


def test_markup_in_received_values_is_escaped(sample: SampleNode, signed_in: TestClient) -> None:
    """A name, an AE title, a host, an error, a flag, a note: none of them becomes markup."""
    uids = (sample.uids["hostile"], sample.uids["failed"])
    pages = ["/", "/live", *(f"/radiographs/{uid}{end}" for uid in uids for end in ("", "/live"))]
    for path in pages:
        text = signed_in.get(path).text
        assert "onerror=alert" in text
        assert not re.search(r"<(img src=x|script>|b>|i>)", text)
        assert "60481729" not in text  # {{7777*7777}} is not worked out
    text = signed_in.get(pages[2]).text
    for expected in (
        "&lt;script&gt;x()",
        "Zoë&lt;b&gt;",
        "CANARY-4711&lt;i&gt;",
        "Knie beidseits &lt;img",
        "odd&lt;img",
    ):
        assert expected in text


def test_hostile_urls_are_not_found(sample: SampleNode, signed_in: TestClient) -> None:
    """Only a known UID and a known image are answered; everything else is 404 and no file is touched."""
    uid = sample.uids["delivered"]
    assert signed_in.get(f"/radiographs/{uid}/film.png").headers["content-type"] == "image/png"
    for path in (
        f"/radiographs/{uid}/patient.json",
        f"/radiographs/{uid}/reading.json",
        f"/radiographs/{uid}/heat-99.png",
        f"/radiographs/{uid}/..%2f..%2fadmin.json",
        f"/radiographs/{uid}/%2e%2e%2fpatient.json",
        "/radiographs/1.2.3",
        "/radiographs/..%2f..%2fetc%2fpasswd",
        "/radiographs/%00",
        "/radiographs/" + "1." * 4000 + "1",
        f"/radiographs/{MARKUP}",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
    ):
        answer = signed_in.get(path, headers=HTML)
        assert answer.status_code == 404, path
        assert "onerror" not in answer.text
    assert (
        signed_in.post("/radiographs/1.2.3/retry", data={"csrf": csrf_in(signed_in.get("/").text)}).status_code == 404
    )
    assert signed_in.post("/sign-out", data={"csrf": "0" * 20_000}).status_code == 413


# The list


def test_the_list_shows_state_grades_reason_sender_and_flags(sample: SampleNode, signed_in: TestClient) -> None:
    """Every radiograph has its row with its state and result."""
    text = signed_in.get("/").text
    for uid in sample.uids.values():
        assert f'href="/radiographs/{uid}"' in text
    for expected in (
        "KL 3",
        "KL 0",
        "NOT_A_KNEE",
        "No AP or PA knee joint",
        "DECODER_LIMIT",
        "XRAY_ROOM_2",
        "conflict",
    ):
        assert expected in text
    for expected in (
        "ORTHANC at 127.0.0.1:4242",
        "4 objects waiting",
        "2 objects waiting",
        "connection refused",
        "down for",
    ):
        assert expected in text
    assert "degraded" in text
    assert "work@here:1" in text
    tiles = dict(re.findall(r'id="tile-([a-z_]+)".*?class="count">(\d+)<', text, re.DOTALL))
    assert tiles == {
        **dict.fromkeys(("received", "grading", "delivered", "not_analysed", "failed"), "1"),
        "reported": "2",
        "confirmed": "0",
    }


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("state=FAILED", {"failed"}),
        ("state=REPORTED", {"reported", "hostile"}),
        ("reason=NOT_A_KNEE", {"refused"}),
        ("flag=CONFLICT", {"hostile"}),
        ("flag=UNDECIDED", {"delivered"}),
        ("state=REPORTED&flag=CONFLICT", {"hostile"}),
        ("state=CONFIRMED", set()),
        ("state=%3Cb%3E&reason=x&flag=y&before=never", set("ALL")),
    ],
)
def test_a_filter_shows_matching_radiographs_only(
    sample: SampleNode, signed_in: TestClient, query: str, expected: set[str]
) -> None:
    """A filter shows its radiographs and no others; an invalid one is ignored."""
    wanted = set(sample.uids) if expected == set("ALL") else expected
    for path in ("/", "/live"):
        text = signed_in.get(f"{path}?{query}").text
        assert {name for name, uid in sample.uids.items() if f"/radiographs/{uid}" in text} == wanted
    if not wanted:
        assert "No radiograph matches the filter" in text


def test_paging_reaches_every_radiograph_once(fresh: SampleNode) -> None:
    """Following "Older" lists each radiograph exactly once, also when several were received at the same moment."""
    start = datetime(2026, 11, 1, tzinfo=UTC)
    for number in range(PAGE_SIZE + 7):
        busy_ledger.arrive(fresh, f"r{number}", at=start + timedelta(seconds=number // 4))
    client = client_of(fresh)
    sign_in(client)
    listed: list[str] = []
    path = "/"
    while path:
        text = client.get(path).text
        listed += re.findall(r'href="/radiographs/([0-9.]+)"', text)
        older = re.search(r'href="(/\?before=[^"]+)">Older', text)
        path = older[1].replace("&amp;", "&") if older else ""
    assert len(listed) == len(set(listed)) == PAGE_SIZE + 7


def test_an_empty_node_shows_how_to_send_to_it(fresh: SampleNode) -> None:
    """With nothing received the page has the command that sends the first radiograph."""
    client = client_of(fresh)
    sign_in(client)
    text = client.get("/").text
    assert "storescu -aec GENU 127.0.0.1 11112 knee.dcm" in text
    assert "not ready" in text


# One radiograph


def test_the_page_of_a_radiograph_is_complete(sample: SampleNode, signed_in: TestClient) -> None:
    """Patient, grades, probabilities, model with hash, deliveries, journal, conflict, caveats and pictures."""
    uid = sample.uids["hostile"]
    text = signed_in.get(f"/radiographs/{uid}").text
    for expected in (
        *("Kanarienvogel", "1957-03-04", "2026-11-01", "Right knee", "Left knee", "71.0 %", "the position on the film"),
        "Sources of the side: the header (Image Laterality): <strong>L</strong>, the marker on the film: <strong>R<",
        *(
            "kl-lite2 1.0.0",
            "ab" * 32,
            "delivery postponed",
            "next attempt",
            "Digital X-Ray Image Storage",
            "Conflicts",
        ),
        *("AI second opinion, not for primary diagnosis", "cells are coarse", "no heat map", "polarity put right"),
        *('type="range"', 'role="switch"', f'src="/radiographs/{uid}/heat-1.png"'),
    ):
        assert expected in text, expected
    assert "heat-2.png" not in text
    assert 'width="71.00"' in text
    for name in ("film.png", "heat-1.png"):
        image = signed_in.get(f"/radiographs/{uid}/{name}")
        assert image.content == sample.vault.read_result(uid, name)
        assert image.headers["cache-control"] == "no-store"


def test_the_certainty_of_a_grade_is_on_list_and_page(sample: SampleNode, signed_in: TestClient) -> None:
    """Confidence, set and doubt of the knee that has them; for the other, an older result, the confidence alone."""
    doubt = "KL 2 and KL 3 could not be told apart"
    pages = (signed_in.get(f"/radiographs/{sample.uids[name]}").text for name in ("delivered", "hostile"))
    page, sure = (text.split("Shadow model, stored here")[0] for text in pages)  # a shadow result is not the answer
    assert re.findall(r"<strong>(\S+ %) sure", page) == ["71 %", "83 %"]
    for text in (page, sure):
        assert text.count("KL 2 to 3 cannot be ruled out (90 % set)") == 1
        kept = re.findall(r'<tr class="([a-z ]*)"><th scope="row">KL (\d)', text)
        assert [grade for words, grade in kept if "kept" in words] == ["2", "3"]
    assert doubt in page
    assert "Two neighbouring grades of a knee could not be told apart" in page
    assert "told apart" not in sure
    rows = signed_in.get("/").text.split("<tr")
    (undecided,) = (row for row in rows if f'row-{sample.uids["delivered"]}"' in row)
    (decided,) = (row for row in rows if f'row-{sample.uids["reported"]}"' in row)
    for row in (undecided, decided):
        assert row.count("(2 to 3)") == 1
    assert doubt in undecided
    assert "undecided" in undecided
    assert "told apart" not in decided
    assert "undecided" not in decided


def test_a_page_shows_the_shadow_result_beside_the_answer(sample: SampleNode, signed_in: TestClient) -> None:
    """Its model, grades and errors, and that they are stored here; a film without a shadow result has none of it."""
    text = signed_in.get(f"/radiographs/{sample.uids['hostile']}").text
    shadow = text[text.index("Shadow model, stored here and never sent") : text.index("<h2>Patient")]
    for expected in ("kl-shadow&lt;img", "2.0.0", "KL 3", "KL 2", "kl-broken&lt;img", "RuntimeError &lt;img"):
        assert expected in shadow, expected
    assert "KL 0" not in shadow
    assert "Shadow model" not in signed_in.get(f"/radiographs/{sample.uids['delivered']}").text


def test_a_shadow_of_another_version_does_not_break_the_page(fresh: SampleNode) -> None:
    """A reading that cannot be parsed is reported as such."""
    uid = busy_ledger.arrive(fresh, "reported")
    busy_ledger.answer(fresh, uid)
    content = {"knees": [{"grade": "severe"}]}
    fresh.ledger.record_shadow_reading(
        uid, ShadowReading(datetime.now(UTC), "kl-new", busy_ledger.SHADOW, content, ""), "w"
    )
    client = client_of(fresh)
    sign_in(client)
    page = client.get(f"/radiographs/{uid}")
    assert page.status_code == 200
    assert "this version cannot show it" in page.text


def model_card(client: TestClient) -> str:
    text = client.get("/").text
    return text[text.index("<h2>Model</h2>") : text.index("<h2>Node")]


def test_the_overview_shows_the_answering_and_the_shadow_model(sample: SampleNode, signed_in: TestClient) -> None:
    """With version, hash and number of workers, and what is wrong with the shadow; markup stays text."""
    text = model_card(signed_in)
    for expected in ("kl-lite2 1.0.0", "answers", "on 1 worker", "shipped", "ab" * 32, "kl-shadow&lt;img", "cd" * 32):
        assert expected in text, expected
    assert "never sent" in text
    assert "The model in shadow cannot be used: cannot be read &lt;img" in text


def test_the_overview_marks_a_worker_that_has_not_followed_a_promotion(fresh: SampleNode) -> None:
    """The new model is shown with who promoted it; a worker that has not loaded it is marked, with the reason."""
    client = client_of(fresh)
    sign_in(client)
    assert "No worker has reported its model" in model_card(client)
    busy_ledger.alive(fresh)
    newer = replace(busy_ledger.MODEL, name="kl-next", version="2.0.0")
    fresh.ledger.promote(
        CardState("kl-next", "1" * 64, newer),
        f"mary{MARKUP}",
        previous=CardState("kl-lite2", "0" * 64, busy_ledger.MODEL),
    )
    detail = {"model": newer.name, "version": newer.version, "sha256": newer.sha256}
    fresh.ledger.record_heartbeat("work", "quick", detail)
    text = model_card(client)
    assert "kl-next 2.0.0" in text
    assert "promoted by mary&lt;img" in text
    assert "not yet replaced by the promoted model" in text
    assert 'class="light warn"' in text
    stubborn = {
        "model": "kl-lite2",
        "version": "1.0.0",
        "sha256": busy_ledger.MODEL.sha256,
        "trouble": "a file is missing",
    }
    fresh.ledger.record_heartbeat("work", "stubborn", stubborn)
    assert "The model that should answer cannot be used: a file is missing" in model_card(client)


def test_a_refusal_shows_its_reason_and_advice(sample: SampleNode, signed_in: TestClient) -> None:
    """The reason's meaning and advice, and the worker's detail, are on the page."""
    text = signed_in.get(f"/radiographs/{sample.uids['refused']}").text
    for expected in (
        "No AP or PA knee joint was found",
        "Grade by eye if it is a knee",
        "no joint above the threshold",
    ):
        assert expected in text


def test_a_retry_is_queued_and_journalled(fresh: SampleNode) -> None:
    """A failed radiograph is RECEIVED again, by admin; one that is being processed is unchanged."""
    uid = busy_ledger.arrive(fresh, "failed")
    fresh.ledger.claim(uid, "w", lease_seconds=60, attempts=3)
    fresh.ledger.fail(uid, "w", "INTERNAL", "broke")
    client = client_of(fresh)
    sign_in(client)
    page = client.get(f"/radiographs/{uid}").text
    assert 'id="retry"' in page
    asked = client.post(f"/radiographs/{uid}/retry", data={"csrf": csrf_in(page)})
    assert asked.headers["location"] == f"/radiographs/{uid}?asked=yes"
    entry = fresh.ledger.find(uid)
    assert entry is not None
    assert entry.state is State.RECEIVED
    assert (fresh.ledger.journal(uid)[-1].what, fresh.ledger.journal(uid)[-1].by) == ("asked again", "admin")
    page = client.get(asked.headers["location"]).text
    assert "Queued again" in page
    assert 'id="retry"' not in page
    again = client.post(f"/radiographs/{uid}/retry", data={"csrf": csrf_in(page)})
    assert again.headers["location"].endswith("asked=no")


def test_deliveries_that_were_given_up_can_be_retried(fresh: SampleNode) -> None:
    """A delivery that was given up waits again after the button."""
    uid = busy_ledger.arrive(fresh, "reported")
    busy_ledger.answer(fresh, uid)
    fresh.ledger.give_up(fresh.ledger.deliveries(uid)[0].id, "refused: SOP class not supported")
    client = client_of(fresh)
    sign_in(client)
    page = client.get(f"/radiographs/{uid}").text
    assert "given up" in page
    assert "SOP class not supported" in page
    client.post(f"/radiographs/{uid}/retry", data={"csrf": csrf_in(page)})
    assert {delivery.state for delivery in fresh.ledger.deliveries(uid)} == {"WAITING"}


def test_our_own_object_routed_back_has_no_retry(fresh: SampleNode) -> None:
    """What Genu made itself is never graded, so no button offers it."""
    uid = busy_ledger.arrive(fresh, "grading")
    fresh.ledger.claim(uid, "w", lease_seconds=60, attempts=3)
    reading = {"sop_instance_uid": uid, "outcome": "not_analysed", "reason": None, "model": None, "knees": []}
    fresh.ledger.record_not_analysed(uid, "w", "OWN_OBJECT", "", reading)
    client = client_of(fresh)
    sign_in(client)
    assert 'id="retry"' not in client.get(f"/radiographs/{uid}").text


def test_a_reading_of_another_version_does_not_break_the_pages(fresh: SampleNode) -> None:
    """A reading with unknown values, and a patient.json that is no JSON, leave the rest of the page intact."""
    uid = busy_ledger.arrive(fresh, "reported")
    fresh.ledger.claim(uid, "w", lease_seconds=60, attempts=3)
    fresh.ledger.report(uid, "w", {"outcome": "pondered", "knees": "many"}, [], {})
    fresh.vault.write_result(uid, "patient.json", b"\xff{not json")
    client = client_of(fresh)
    sign_in(client)
    assert client.get("/").status_code == 200
    text = client.get(f"/radiographs/{uid}").text
    assert "Another version of Genu wrote the reading" in text
    fresh.vault.write_result(uid, "patient.json", b"[1, 2]")
    assert client.get(f"/radiographs/{uid}").status_code == 200


# No patient data is disclosed


def test_no_patient_data_before_signing_in_nor_in_probes_metrics_logs_or_the_list(
    sample: SampleNode, capfd: pytest.CaptureFixture[str]
) -> None:
    """The canary's name is on its own page after signing in, and nowhere else."""
    client = client_of(sample)
    disclosed = ""
    for method, path in addresses(client, sample):
        answer = client.request(method, path, headers=HTML)
        disclosed += answer.text + str(answer.headers)
    assert sign_in(client).status_code == 303
    disclosed += (
        client.get("/").text + client.get("/live").text + client.get("/readyz").text + client.get("/metrics").text
    )
    uid = sample.uids["delivered"]
    page = client.get(f"/radiographs/{uid}").text
    client.post(f"/radiographs/{uid}/retry", data={"csrf": csrf_in(page)})
    assert "Kanarienvogel" in page
    disclosed += "".join(capfd.readouterr())
    assert "signed_in" in disclosed
    for secret in SECRETS:
        assert secret not in disclosed, secret


def test_an_error_on_a_page_is_logged_without_its_text(
    sample: SampleNode, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An error whose text quotes a patient reaches neither the log nor the browser."""

    def broken(self: Vault, uid: str, name: str) -> bytes:
        raise RuntimeError(f"cannot show {SECRETS[0]}")

    client = client_of(sample)
    sign_in(client)
    monkeypatch.setattr(Vault, "read_result", broken)
    answer = client.get(f"/radiographs/{sample.uids['delivered']}")
    assert answer.status_code == 500
    output = answer.text + "".join(capfd.readouterr())
    assert "page_failed" in output
    assert "RuntimeError" in output
    assert SECRETS[0] not in output


# Serving


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_server_answers_sends_heartbeats_and_stops_cleanly(tmp_path: Path) -> None:
    """serve answers over a real socket, writes heartbeats to the ledger, and afterwards the port is free again."""
    settings = busy_ledger.settings_of(tmp_path, port=free_port())
    sample = busy_ledger.empty(settings)
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(settings, sample.vault, sample.ledger, lambda: True, stop))
    thread.start()
    base = f"http://127.0.0.1:{settings.admin.port}"
    wait_for(lambda: httpx.get(f"{base}/healthz").status_code == 200)
    answer = httpx.get(f"{base}/sign-in")
    assert "Sign in" in answer.text
    assert "server" not in answer.headers
    wait_for(lambda: any(beat.process == "admin" for beat in sample.ledger.heartbeats()))
    with pytest.raises(GenuError, match=f"cannot listen on 127.0.0.1:{settings.admin.port}"):
        serve(settings, sample.vault, sample.ledger, lambda: True, threading.Event())
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    with socket.create_server(("127.0.0.1", settings.admin.port)):
        pass
    sample.ledger.close()


def test_an_open_connection_does_not_delay_the_stop(tmp_path: Path) -> None:
    """A connection that stays open, and a request that never ends, do not keep serve from returning."""
    settings = busy_ledger.settings_of(tmp_path, port=free_port())
    sample = busy_ledger.empty(settings)
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(settings, sample.vault, sample.ledger, lambda: True, stop))
    thread.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{settings.admin.port}") as kept:
        wait_for(lambda: kept.get("/healthz").status_code == 200)
        with socket.create_connection(("127.0.0.1", settings.admin.port)) as unfinished:
            unfinished.sendall(b"POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
            stop.set()
            thread.join(20)
    assert not thread.is_alive()
    sample.ledger.close()


def wait_for(holds: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            if holds():
                return
        except (httpx.HTTPError, OSError):
            pass
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_the_admin_application_needs_no_torch() -> None:
    """Importing the application imports neither torch nor the workers."""
    code = "import sys, node.admin.app; print({'torch', 'workers', 'cv2'} & {m.split('.')[0] for m in sys.modules})"
    root = ROOT
    output = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert output.strip() == "set()"


def test_session_hours_come_from_the_settings(tmp_path: Path) -> None:
    """The hours of the settings are those of the cookie."""
    settings: Settings = busy_ledger.settings_of(tmp_path, session_hours=0.5)
    sample = busy_ledger.empty(settings)
    cookies = sign_in(client_of(sample)).headers.get_list("set-cookie")
    assert any("genu_session" in cookie and "Max-Age=1800" in cookie for cookie in cookies)
    sample.ledger.close()
