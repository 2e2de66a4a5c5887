"""The operator's documents match the code: alerts, dashboard, runbook, conformance statement, service, hooks."""

import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION

from node import __version__
from node.__main__ import genu
from node.admin.metrics import LedgerCollector
from node.ledger import Ledger, State
from node.radiograph import STORAGE_CLASSES, TRANSFER_SYNTAXES, Radiograph
from node.reasons import REASONS
from node.receive import admission, statuses
from node.receive.counts import Counts
from node.settings import Settings, setting_tables
from node.storage import Vault
from tests.paths import ROOT
from tests.peers.archives import needs, program_path
from workers.report.provenance import IMPLEMENTATION_CLASS_UID
from workers.report.secondary_capture import SERIES_NUMBER as SC_SERIES
from workers.report.structured_report.document import SERIES_NUMBER as SR_SERIES

DEPLOY = ROOT / "deploy"
ALERTS = DEPLOY / "prometheus-alerts.yml"
RUNBOOK = (DEPLOY / "RUNBOOK.md").read_text(encoding="utf-8")
CONFORMANCE = (DEPLOY / "CONFORMANCE.md").read_text(encoding="utf-8")


def alerts() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    return found


def table(text: str, heading: str) -> list[list[str]]:
    """The rows of the first table whose head begins with `heading`."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def record(ledger: Ledger, uid: str) -> None:
    ledger.record_received(
        Radiograph(uid, STORAGE_CLASSES[0], TRANSFER_SYNTAXES[0], "0" * 64, 1, "CR", "::1", datetime.now(UTC))
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    opened.upgrade()
    yield opened
    opened.close()


def test_alerts_and_dashboard_use_existing_metrics(ledger: Ledger, tmp_path: Path) -> None:
    """Every genu_ name in them is a metric of /metrics, so that a renamed metric breaks no alert unnoticed."""
    ledger.record_heartbeat("receive", "GENU:11112", Counts().as_detail())
    registry = CollectorRegistry(auto_describe=False)
    registry.register(LedgerCollector(Settings(), Vault(tmp_path), ledger))
    existing = set()
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        existing.add(f"{family.name}_total" if family.type == "counter" else family.name)
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    expressions = [rule["expr"] for rule in alerts()]
    expressions += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    names = {name for expression in expressions for name in re.findall(r"\bgenu_[a-z_]+\b", expression)}
    assert names <= existing
    states = {
        state
        for expression in expressions
        for pattern in re.findall(r'state=~?"([^"]+)"', expression)
        for state in pattern.split("|")
    }
    assert states <= {state.value for state in State}


def test_every_alert_has_its_paragraph() -> None:
    """The link of an alert leads to a paragraph of the runbook that names the alert."""
    paragraphs = dict(re.findall(r"^## (.+)\n\n((?:(?!^## ).*\n)*)", RUNBOOK, re.MULTILINE))
    anchors = {title.lower().replace(" ", "-"): text for title, text in paragraphs.items()}
    for rule in alerts():
        file, anchor = rule["annotations"]["runbook"].split("#")
        assert file == "deploy/RUNBOOK.md"
        assert rule["alert"] in anchors[anchor], rule["alert"]
    assert set(re.findall(r"\bGenu[A-Z]\w+", RUNBOOK)) == {rule["alert"] for rule in alerts()}


@needs("promtool")
def test_alerts_fire_when_they_should_and_not_before(tmp_path: Path) -> None:
    """Prometheus itself evaluates the rules over hours with failures, and over hours without."""
    failing, healthy = "0x60 1x120", "0x180"
    series = [
        ('genu_radiographs{state="FAILED"}', failing),
        ('genu_radiographs{state="DELIVERED"}', failing),
        ("genu_storage_minimum_bytes", "500x180"),
        ("genu_storage_free_bytes", "9000x120 100x60"),
        ('genu_destination_up{destination="pacs"}', "1x120 0x60"),
        ('genu_destination_up{destination="vna"}', "1x180"),
        ('genu_events_total{event="delivery_given_up"}', "_x120 1x60"),
        ('genu_radiographs_oldest_age_seconds{state="RECEIVED"}', "5x120 900x60"),
        ('genu_radiographs_oldest_age_seconds{state="FAILED"}', "99999x180"),
        ('genu_model_troubles{role="answers"}', "0x120 1x60"),
        ("genu_ledger_up", healthy.replace("0x", "1x")),
    ]
    soon = {"GenuDiskFull", "GenuDeliveryGivenUp", "GenuGradingLate"}
    firing = {55: set(), 70: {"GenuFailed"}, 118: {"GenuFailed"}, 123: soon}
    firing[145] = {*soon, "GenuDestinationDown", "GenuDiskFillsUp", "GenuModelTrouble"}
    file = tmp_path / "afternoon.yml"
    file.write_text(
        json.dumps(
            {
                "rule_files": [str(ALERTS)],
                "evaluation_interval": "1m",
                "tests": [
                    {
                        "interval": "1m",
                        "input_series": [{"series": name, "values": values} for name, values in series],
                        "promql_expr_test": [_firing_at(minute, names) for minute, names in firing.items()],
                    }
                ],
            }
        )
    )
    done = subprocess.run(
        [program_path("promtool") or "", "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _firing_at(minute: int, names: set[str]) -> dict[str, Any]:
    """After `minute` minutes these alerts fire, and no others."""
    return {
        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
        "eval_time": f"{minute}m",
        "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(names)],
    }


def test_the_runbook_has_existing_reasons_and_commands_only() -> None:
    """Every reason is in the runbook or in CODES.md; every command, setting and log event in the runbook exists."""
    rows = table(RUNBOOK, "Reason") + table(RUNBOOK[RUNBOOK.index("## Most radiographs") :], "Reason")
    documented = {row[0] for row in table((DEPLOY / "CODES.md").read_text(), "Code")}
    assert {row[0] for row in rows} <= set(REASONS) == documented
    assert {row[0] for row in table(RUNBOOK, "Part")} == {"receive", "work", "deliver", "sweep"}
    commands = genu.list_commands(click.Context(genu))
    for text in (RUNBOOK, CONFORMANCE, (DEPLOY / "genu.service").read_text()):
        for name in re.findall(r"`genu\s+([a-z]+)", text):
            assert name in commands, name
    known = {key for _, keys in setting_tables() for key, _, _ in keys} | {"host", "address"}
    mentioned = set(re.findall(r"`([a-z]+_[a-z_]+)`", RUNBOOK)) - {"association_refused", "store_refused", "pg_dump"}
    reasons = {"unknown_source", "called_ae_title", "no_context", "too_many", "not_dicom"}
    assert mentioned - reasons <= known
    sources = "".join(path.read_text() for path in (ROOT / "node" / "receive").glob("*.py"))
    for word in (*reasons, "stalled", "oversized", "crowded", "association_refused", "store_refused"):
        assert f'"{word}"' in sources, word


def test_the_backup_of_the_runbook_is_complete_while_the_node_writes(ledger: Ledger, tmp_path: Path) -> None:
    """Its command, run on a ledger in use, makes a copy that opens and has every row committed before."""
    line = next(line for line in RUNBOOK.splitlines() if "live.backup(copy)" in line)
    program = re.findall(r'python3 -c "([^"]+)"', line)[0]
    for number in range(20):
        record(ledger, f"1.2.{number + 1}")
    (tmp_path / "backup").mkdir()
    copied = tmp_path / "backup" / "ledger.sqlite"
    command = [sys.executable, "-c", program, str(tmp_path / "ledger.sqlite"), str(copied)]
    subprocess.run(command, check=True, timeout=30)
    record(ledger, "1.2.99")
    assert not copied.with_name("ledger.sqlite-wal").exists()
    with sqlite3.connect(copied) as restored:
        assert restored.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    again = Ledger(f"sqlite:///{copied}")
    again.upgrade()
    assert again.counts_by_state()[State.RECEIVED] == 20
    assert len(again.unfinished(datetime.now(UTC))) == 20
    again.close()


def test_conformance_lists_the_accepted_classes_and_syntaxes() -> None:
    """The two tables are node/radiograph.py, name by name, in its order."""
    assert table(CONFORMANCE, "SOP class") == [[uid.name, str(uid)] for uid in STORAGE_CLASSES]
    assert table(CONFORMANCE, "Transfer syntax") == [[uid.name, str(uid)] for uid in TRANSFER_SYNTAXES]


def test_conformance_lists_the_statuses_and_rejections() -> None:
    """Every status that the receiver can answer, and every A-ASSOCIATE-RJ, with its three numbers."""
    existing = {f"{value:04X}" for name, value in vars(statuses).items() if name.isupper() and isinstance(value, int)}
    assert {row[0] for row in table(CONFORMANCE, "Status")} == existing
    rows = [tuple(int(cell.split()[0]) for cell in row[1:]) for row in table(CONFORMANCE, "Rejected")]
    rejections = (admission.UNKNOWN_SOURCE, admission.WRONG_CALLED_AE_TITLE, admission.TOO_MANY, admission.STOPPING)
    assert rows == [(rejection.result, rejection.source, rejection.diagnostic) for rejection in rejections]


def test_conformance_lists_the_current_defaults() -> None:
    """Limits and timeouts are those of the settings."""
    defaults = {f"{name.strip('[]')}.{key}": default for name, keys in setting_tables() for key, default, _ in keys}
    rows = [row for heading in ("Limit", "Patience") for row in table(CONFORMANCE, heading)]
    assert len(rows) == 9
    for _, setting, default in rows:
        assert defaults[setting.strip("`")] == default, setting


def test_conformance_has_the_identification_of_result_objects() -> None:
    """Implementation classes, versions and series numbers are those of the code."""
    for value in (PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION, IMPLEMENTATION_CLASS_UID):
        assert str(value) in CONFORMANCE
    assert f"Genu {__version__}" in CONFORMANCE
    assert f"GENU_{__version__}" in CONFORMANCE
    assert ["Series Number", str(SC_SERIES), str(SR_SERIES)] in table(CONFORMANCE, "Attribute")


def test_the_changelog_has_this_version() -> None:
    """The released version has an entry with its date."""
    text = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(rf"^## \[{re.escape(__version__)}\] - \d{{4}}-\d\d-\d\d$", text, re.MULTILINE)


@needs("systemd-analyze")
def test_systemd_accepts_the_service(tmp_path: Path) -> None:
    """It loads without a warning; its program and user are replaced, because they are not installed here."""
    text = (DEPLOY / "genu.service").read_text()
    assert text.count("/opt/genu/.venv/bin/genu --settings /etc/genu/genu.toml") == 2
    text = re.sub(r"^(User|Group|Documentation)=.*\n", "", text, flags=re.MULTILINE)
    unit = tmp_path / "genu.service"
    unit.write_text(text.replace("/opt/genu/.venv/bin/genu", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert "genu.service" not in done.stderr
    assert done.returncode == 0, done.stderr


def test_the_hooks_run_the_checks_of_the_makefile_and_download_nothing() -> None:
    """The same three tools as `make check`, from .venv, at the versions installed there."""
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    entries = [hook["entry"] for hook in repositories[0]["hooks"]]
    assert all(entry.startswith(".venv/bin/") for entry in entries)
    recipe = re.findall(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[0]
    wanted = re.findall(r"\$\(BIN\)/(ruff check|ruff format|mypy)", recipe)
    assert [re.sub(r" --.*", "", entry.removeprefix(".venv/bin/")) for entry in entries] == wanted
