"""The admin web application: what is shown, and that nothing of a patient gets out."""

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
from node.admin.radiograph_list import PAGE
from node.errors import GenuError
from node.ledger import CardState, ShadowReading, State
from node.settings import Settings
from node.storage import Vault
from tests.paths import ROOT
from tests.samples import busy_ledger as house
from tests.samples.busy_ledger import HTML, MARKUP, SECRETS, Ward, addresses, client_of, csrf_in, sign_in


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    ward = house.busy(house.settings_of(tmp_path_factory.mktemp("admin")))
    yield ward
    ward.ledger.close()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Ward]:
    ward = house.empty(house.settings_of(tmp_path))
    yield ward
    ward.ledger.close()


@pytest.fixture
def signed_in(ward: Ward) -> TestClient:
    client = client_of(ward)
    assert sign_in(client).status_code == 303
    return client


# What the browser is told


def test_pages_run_nothing_foreign_and_are_not_kept(ward: Ward, signed_in: TestClient) -> None:
    """Every answer has the headers, and no template has anything inline that they forbid."""
    for method, path in [*addresses(signed_in, ward), ("GET", "/nothing"), ("GET", "/static/genu.css")]:
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


def test_markup_from_outside_stays_text(ward: Ward, signed_in: TestClient) -> None:
    """A name, an AE title, a host, an error, a flag, a note: none of them becomes markup."""
    uids = (ward.uids["hostile"], ward.uids["failed"])
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


def test_hostile_addresses_reach_nothing(ward: Ward, signed_in: TestClient) -> None:
    """Only a known UID and a known picture are answered; everything else is 404 and no file is touched."""
    uid = ward.uids["delivered"]
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


def test_the_list_shows_state_grades_reason_sender_and_flags(ward: Ward, signed_in: TestClient) -> None:
    """Every radiograph has its line with what became of it."""
    text = signed_in.get("/").text
    for uid in ward.uids.values():
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
    for expected in ("ORTHANC at 127.0.0.1:4242", "4 objects wait", "2 objects wait", "connection refused", "down for"):
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
def test_filters_show_what_they_say(ward: Ward, signed_in: TestClient, query: str, expected: set[str]) -> None:
    """A filter shows its radiographs and no other; one that makes no sense is left out."""
    wanted = set(ward.uids) if expected == set("ALL") else expected
    for path in ("/", "/live"):
        text = signed_in.get(f"{path}?{query}").text
        assert {name for name, uid in ward.uids.items() if f"/radiographs/{uid}" in text} == wanted
    if not wanted:
        assert "No radiograph like that" in text


def test_paging_reaches_every_radiograph_once(fresh: Ward) -> None:
    """From page to page by "Older", each is seen exactly once, also when several came in at the same moment."""
    start = datetime(2026, 11, 1, tzinfo=UTC)
    for number in range(PAGE + 7):
        house.arrive(fresh, f"r{number}", at=start + timedelta(seconds=number // 4))
    client = client_of(fresh)
    sign_in(client)
    seen: list[str] = []
    path = "/"
    while path:
        text = client.get(path).text
        seen += re.findall(r'href="/radiographs/([0-9.]+)"', text)
        older = re.search(r'href="(/\?before=[^"]+)">Older', text)
        path = older[1].replace("&amp;", "&") if older else ""
    assert len(seen) == len(set(seen)) == PAGE + 7


def test_an_empty_node_says_how_to_send_to_it(fresh: Ward) -> None:
    """With nothing received there is the command that sends the first radiograph."""
    client = client_of(fresh)
    sign_in(client)
    text = client.get("/").text
    assert "storescu -aec GENU 127.0.0.1 11112 knee.dcm" in text
    assert "not ready" in text


# One radiograph


def test_the_page_of_a_radiograph_tells_everything(ward: Ward, signed_in: TestClient) -> None:
    """Patient, grades, probabilities, model with hash, deliveries, journal, conflict, caveats and pictures."""
    uid = ward.uids["hostile"]
    text = signed_in.get(f"/radiographs/{uid}").text
    for expected in (
        *("Kanarienvogel", "1957-03-04", "2026-11-01", "Right knee", "Left knee", "71.0 %", "its place on the film"),
        *("kl-lite0 1.0.0", "ab" * 32, "delivery postponed", "next try", "Digital X-Ray Image Storage", "Conflicts"),
        *("AI second opinion, not for primary diagnosis", "cells are coarse", "no heat map", "polarity put right"),
        *('type="range"', 'role="switch"', f'src="/radiographs/{uid}/heat-1.png"'),
    ):
        assert expected in text, expected
    assert "heat-2.png" not in text
    assert 'width="71.00"' in text
    for name in ("film.png", "heat-1.png"):
        picture = signed_in.get(f"/radiographs/{uid}/{name}")
        assert picture.content == ward.vault.read_result(uid, name)
        assert picture.headers["cache-control"] == "no-store"


def test_how_sure_a_grade_is_stands_on_list_and_page(ward: Ward, signed_in: TestClient) -> None:
    """Confidence, set and doubt of the knee that has them; of the other, answered as before, the confidence alone."""
    doubt = "KL 2 and KL 3 could not be told apart"
    pages = (signed_in.get(f"/radiographs/{ward.uids[name]}").text for name in ("delivered", "hostile"))
    page, sure = (text.split("In shadow, kept here")[0] for text in pages)  # what a shadow says is not the answer
    assert re.findall(r"<strong>(\S+ %) sure", page) == ["71 %", "83 %"]
    for text in (page, sure):
        assert text.count("KL 2 to 3 cannot be ruled out (90 % set)") == 1
        kept = re.findall(r'<tr class="([a-z ]*)"><th scope="row">KL (\d)', text)
        assert [grade for words, grade in kept if "kept" in words] == ["2", "3"]
    assert doubt in page
    assert "Two neighbouring grades of a knee could not be told apart" in page
    assert "told apart" not in sure
    rows = signed_in.get("/").text.split("<tr")
    (undecided,) = (row for row in rows if f'row-{ward.uids["delivered"]}"' in row)
    (decided,) = (row for row in rows if f'row-{ward.uids["reported"]}"' in row)
    for row in (undecided, decided):
        assert row.count("(2 to 3)") == 1
    assert doubt in undecided
    assert "undecided" in undecided
    assert "told apart" not in decided
    assert "undecided" not in decided


def test_a_page_says_what_the_shadow_said_beside_the_answer(ward: Ward, signed_in: TestClient) -> None:
    """Its model, its grades and its faults, and that they are kept here; a film without a shadow has none of it."""
    text = signed_in.get(f"/radiographs/{ward.uids['hostile']}").text
    shadow = text[text.index("In shadow, kept here and never sent") : text.index("<h2>Patient")]
    for expected in ("kl-shadow&lt;img", "2.0.0", "KL 3", "KL 2", "kl-broken&lt;img", "RuntimeError &lt;img"):
        assert expected in shadow, expected
    assert "KL 0" not in shadow
    assert "In shadow" not in signed_in.get(f"/radiographs/{ward.uids['delivered']}").text


def test_a_shadow_of_another_version_does_not_break_the_page(fresh: Ward) -> None:
    """A reading that cannot be understood is said to be one."""
    uid = house.arrive(fresh, "reported")
    house.answer(fresh, uid)
    told = {"knees": [{"grade": "severe"}]}
    fresh.ledger.shadowed(uid, ShadowReading(datetime.now(UTC), "kl-new", house.SHADOW, told, ""), "w")
    client = client_of(fresh)
    sign_in(client)
    page = client.get(f"/radiographs/{uid}")
    assert page.status_code == 200
    assert "this one cannot show it" in page.text


def model_card(client: TestClient) -> str:
    text = client.get("/").text
    return text[text.index("<h2>Model</h2>") : text.index("<h2>Node")]


def test_the_overview_says_who_answers_and_who_shadows(ward: Ward, signed_in: TestClient) -> None:
    """With version, hash and number of workers, and what is wrong with the shadow; markup stays text."""
    told = model_card(signed_in)
    for expected in ("kl-lite0 1.0.0", "answers", "on 1 worker", "shipped", "ab" * 32, "kl-shadow&lt;img", "cd" * 32):
        assert expected in told, expected
    assert "never sent" in told
    assert "The model in shadow cannot be used: cannot be read &lt;img" in told


def test_the_overview_says_which_worker_has_not_followed_a_promotion(fresh: Ward) -> None:
    """One that answers by the new model says by whom it was promoted; one that does not is marked, with the reason."""
    client = client_of(fresh)
    sign_in(client)
    assert "No worker says which model it has" in model_card(client)
    house.alive(fresh)
    newer = replace(house.MODEL, name="kl-next", version="2.0.0")
    fresh.ledger.promote(
        CardState("kl-next", "1" * 64, newer), f"mary{MARKUP}", until_now=CardState("kl-lite0", "0" * 64, house.MODEL)
    )
    told = {"model": newer.name, "version": newer.version, "sha256": newer.sha256}
    fresh.ledger.beat("work", "quick", told)
    text = model_card(client)
    assert "kl-next 2.0.0" in text
    assert "promoted by mary&lt;img" in text
    assert "not taken over from yet" in text
    assert 'class="light warn"' in text
    stubborn = {"model": "kl-lite0", "version": "1.0.0", "sha256": house.MODEL.sha256, "trouble": "a file is missing"}
    fresh.ledger.beat("work", "stubborn", stubborn)
    assert "The model that should answer cannot be used: a file is missing" in model_card(client)


def test_a_refusal_says_why_and_what_to_do(ward: Ward, signed_in: TestClient) -> None:
    """The reason's meaning and advice, and the worker's detail, are on the page."""
    text = signed_in.get(f"/radiographs/{ward.uids['refused']}").text
    for expected in (
        "No AP or PA knee joint was found",
        "Grade by eye if it is a knee",
        "no joint above the threshold",
    ):
        assert expected in text


def test_asking_again_is_done_and_journalled(fresh: Ward) -> None:
    """A failed radiograph is RECEIVED again, by admin; one that goes its way is left alone."""
    uid = house.arrive(fresh, "failed")
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
    assert "Asked again" in page
    assert 'id="retry"' not in page
    again = client.post(f"/radiographs/{uid}/retry", data={"csrf": csrf_in(page)})
    assert again.headers["location"].endswith("asked=no")


def test_given_up_deliveries_can_be_asked_for_again(fresh: Ward) -> None:
    """A delivery that was given up waits again after the button."""
    uid = house.arrive(fresh, "reported")
    house.answer(fresh, uid)
    fresh.ledger.give_up(fresh.ledger.deliveries(uid)[0].id, "refused: SOP class not supported")
    client = client_of(fresh)
    sign_in(client)
    page = client.get(f"/radiographs/{uid}").text
    assert "given up" in page
    assert "SOP class not supported" in page
    client.post(f"/radiographs/{uid}/retry", data={"csrf": csrf_in(page)})
    assert {delivery.state for delivery in fresh.ledger.deliveries(uid)} == {"WAITING"}


def test_our_own_object_routed_back_has_no_retry(fresh: Ward) -> None:
    """What Genu made itself is never graded, so no button offers it."""
    uid = house.arrive(fresh, "grading")
    fresh.ledger.claim(uid, "w", lease_seconds=60, attempts=3)
    told = {"sop_instance_uid": uid, "outcome": "not_analysed", "reason": None, "model": None, "knees": []}
    fresh.ledger.set_aside(uid, "w", "OWN_OBJECT", "", told)
    client = client_of(fresh)
    sign_in(client)
    assert 'id="retry"' not in client.get(f"/radiographs/{uid}").text


def test_a_reading_of_another_version_does_not_break_the_pages(fresh: Ward) -> None:
    """A reading with unknown words, and patient facts that are no JSON, leave the rest of the page standing."""
    uid = house.arrive(fresh, "reported")
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


# Nothing of a patient gets out


def test_no_patient_data_before_signing_in_nor_in_probes_metrics_logs_or_the_list(
    ward: Ward, capfd: pytest.CaptureFixture[str]
) -> None:
    """The canary's name is on its own page after signing in, and nowhere else."""
    client = client_of(ward)
    told = ""
    for method, path in addresses(client, ward):
        answer = client.request(method, path, headers=HTML)
        told += answer.text + str(answer.headers)
    assert sign_in(client).status_code == 303
    told += client.get("/").text + client.get("/live").text + client.get("/readyz").text + client.get("/metrics").text
    uid = ward.uids["delivered"]
    page = client.get(f"/radiographs/{uid}").text
    client.post(f"/radiographs/{uid}/retry", data={"csrf": csrf_in(page)})
    assert "Kanarienvogel" in page
    told += "".join(capfd.readouterr())
    assert "signed_in" in told
    for secret in SECRETS:
        assert secret not in told, secret


def test_a_fault_on_a_page_logs_where_and_not_what(
    ward: Ward, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An error whose text quotes a patient reaches neither the log nor the browser."""

    def broken(self: Vault, uid: str, name: str) -> bytes:
        raise RuntimeError(f"cannot show {SECRETS[0]}")

    client = client_of(ward)
    sign_in(client)
    monkeypatch.setattr(Vault, "read_result", broken)
    answer = client.get(f"/radiographs/{ward.uids['delivered']}")
    assert answer.status_code == 500
    told = answer.text + "".join(capfd.readouterr())
    assert "page_failed" in told
    assert "RuntimeError" in told
    assert SECRETS[0] not in told


# Serving


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_served_page_answers_beats_and_stops_cleanly(tmp_path: Path) -> None:
    """serve answers over a real socket, the ledger hears of it, and afterwards the port is free again."""
    settings = house.settings_of(tmp_path, port=free_port())
    ward = house.empty(settings)
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(settings, ward.vault, ward.ledger, lambda: True, stop))
    thread.start()
    base = f"http://127.0.0.1:{settings.admin.port}"
    wait_for(lambda: httpx.get(f"{base}/healthz").status_code == 200)
    answer = httpx.get(f"{base}/sign-in")
    assert "Sign in" in answer.text
    assert "server" not in answer.headers
    wait_for(lambda: any(beat.part == "admin" for beat in ward.ledger.parts()))
    with pytest.raises(GenuError, match=f"cannot listen on 127.0.0.1:{settings.admin.port}"):
        serve(settings, ward.vault, ward.ledger, lambda: True, threading.Event())
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    with socket.create_server(("127.0.0.1", settings.admin.port)):
        pass
    ward.ledger.close()


def test_an_open_connection_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """A browser that keeps its connection, and one that never finishes its request, do not keep serve from ending."""
    settings = house.settings_of(tmp_path, port=free_port())
    ward = house.empty(settings)
    stop = threading.Event()
    thread = threading.Thread(target=serve, args=(settings, ward.vault, ward.ledger, lambda: True, stop))
    thread.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{settings.admin.port}") as kept:
        wait_for(lambda: kept.get("/healthz").status_code == 200)
        with socket.create_connection(("127.0.0.1", settings.admin.port)) as unfinished:
            unfinished.sendall(b"POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
            stop.set()
            thread.join(20)
    assert not thread.is_alive()
    ward.ledger.close()


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


def test_the_admin_page_needs_no_torch() -> None:
    """Importing the application imports neither torch nor the workers."""
    code = "import sys, node.admin.app; print({'torch', 'workers', 'cv2'} & {m.split('.')[0] for m in sys.modules})"
    root = ROOT
    told = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout
    assert told.strip() == "set()"


def test_settings_reach_the_session(tmp_path: Path) -> None:
    """The hours of the settings are those of the cookie."""
    settings: Settings = house.settings_of(tmp_path, session_hours=0.5)
    ward = house.empty(settings)
    cookies = sign_in(client_of(ward)).headers.get_list("set-cookie")
    assert any("genu_session" in cookie and "Max-Age=1800" in cookie for cookie in cookies)
    ward.ledger.close()
