"""The settings: one file, variables that override it, and mistakes that are reported with their line."""

import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies
from pydantic import ValidationError

from node.errors import SettingsError
from node.settings import Destination, Settings, load, setting_tables, settings_help
from node.toml_lines import line_of
from tests.paths import ROOT

EXAMPLE = ROOT / "deploy" / "settings.toml"
LEAST = """\
[storage]
folder = "data"
[receive]
ae_title = "GENU"
host = "127.0.0.1"
port = 11112
[[destination]]
name = "pacs"
ae_title = "ORTHANC"
host = "127.0.0.1"
port = 4242
[admin]
host = "127.0.0.1"
port = 8080
"""


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No genu.toml in the working folder, and no variable of Genu's."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.upper().startswith("GENU")]:
        monkeypatch.delenv(name)


def written(text: str) -> Path:
    path = Path("site.toml")
    path.write_text(text, encoding="utf-8")
    return path


def error_of(text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(written(text))
    return str(caught.value)


def test_without_a_file_the_embedded_defaults_hold() -> None:
    """On a fresh machine nothing has to be set: loopback, the usual ports, everything below data/."""
    found = load()
    assert (found.receive.ae_title, found.receive.host, found.receive.port) == ("GENU", "127.0.0.1", 11112)
    assert (found.admin.host, found.admin.port, found.admin.password) == ("127.0.0.1", 8080, "")
    assert found.database_url == f"sqlite:///{Path.cwd() / 'data' / 'ledger.sqlite'}"
    assert found.destination == ()


def test_the_least_file_of_the_design_loads() -> None:
    """The file that the design page shows is understood as it says."""
    found = load(written(LEAST))
    assert found.destination == (Destination(name="pacs", ae_title="ORTHANC", host="127.0.0.1", port=4242),)
    assert found.destination[0].objects == ("SC", "SR", "SEG")


def test_genu_toml_of_the_working_folder_is_found() -> None:
    """Without --settings the file in the working folder counts."""
    Path("genu.toml").write_text("[receive]\nport = 10104\n")
    assert load().receive.port == 10104


def test_a_file_with_a_byte_order_mark_and_other_line_ends_loads() -> None:
    """Editors on other systems put a mark before the text and end lines in their way."""
    Path("site.toml").write_bytes(b"\xef\xbb\xbf" + LEAST.replace("\n", "\r\n").encode())
    assert load(Path("site.toml")).destination[0].port == 4242


def test_a_variable_wins_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container changes one setting without a file of its own; the file's other keys stay."""
    monkeypatch.setenv("GENU__RECEIVE__PORT", "2762")
    monkeypatch.setenv("genu__broker__url", "redis://broker:6379/0")
    found = load(written('[receive]\nport = 104\nae_title = "KNEES"\n'))
    assert (found.receive.port, found.receive.ae_title) == (2762, "KNEES")
    assert found.broker.url == "redis://broker:6379/0"


def test_destinations_can_come_from_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole table is given as JSON, and then takes the place of the file's."""
    given_ = [{"name": "vna", "ae_title": "VNA", "host": "vna", "port": 104, "objects": ["SR"]}]
    monkeypatch.setenv("GENU__DESTINATION", json.dumps(given_))
    assert [destination.name for destination in load(written(LEAST)).destination] == ["vna"]


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("[receive]\nport = 104\nprot = 105\n", "line 3", "receive.prot: unknown setting"),
        ("# a comment\n\n[recieve]\nport = 104\n", "line 3", "recieve: unknown setting"),
        ("[receive]\nport = 0\n", "line 2", "receive.port: Input should be greater than or equal to 1"),
        ('[receive]\nport = "dicom"\n', "line 2", "receive.port: Input should be a valid integer"),
        ('[work]\n"attempts" = 0 # never\n', "line 2", "work.attempts"),
        ("receive.port = 70000\n", "line 1", "receive.port"),
        ("work = { attempts = 3, processes = -1 }\n", "line 1", "work.processes"),
        (LEAST.replace("port = 4242\n", ""), "line 7", "destination.0.port: Field required"),
        (LEAST + '\n[[destination]]\nname = "a b"\nae_title = "A"\nhost = "h"\nport = 1\n', "line 17", "1.name"),
        (LEAST.replace('"ORTHANC"', '"A\\\\B"'), "line 9", "an AE title has 1 to 16 ASCII characters"),
        (
            LEAST.replace("[admin]", '[destination.tls]\nkey = "k"\n[admin]'),
            "line 12",
            "tls.certificate: Field required",
        ),
        (
            '[[destination]]\nobjects = [\n  "SC",\n  "XX",\n]\n',
            "line 2",
            "objects.1: Input should be 'SC', 'SC1', 'SR'",
        ),
        (LEAST * 1 + LEAST[LEAST.index("[[") : LEAST.index("[admin]")], "line 7", "2 tables have the name 'pacs'"),
    ],
)
def test_an_error_message_has_the_line(text: str, where: str, what: str) -> None:
    """Unknown keys, wrong values and missing ones: the file, the line, the key and what is wrong with it."""
    message = error_of(text)
    assert f"site.toml, {where}: " in message
    assert what in message
    assert "genu check --help" in message


RIS = '[[destination]]\nname = "ris"\n'


@pytest.mark.parametrize(
    ("text", "protocol", "objects", "address"),
    [
        ('protocol = "mllp"\nhost = "ris.example"\nport = 2575\n', "mllp", ("HL7",), "ris.example:2575"),
        ('protocol = "fhir"\nurl = "https://fhir.example/r4/"\n', "fhir", ("FHIR",), "https://fhir.example/r4"),
        ('ae_title = "PACS"\nhost = "h"\nport = 104\n', "dicom", ("SC", "SR", "SEG"), "PACS at h:104"),
    ],
)
def test_a_ris_needs_no_more_than_its_protocol_does(
    text: str, protocol: str, objects: tuple[str, ...], address: str
) -> None:
    """An address and a protocol: what it gets follows from that. Without a protocol it is an archive as ever."""
    (found,) = load(written(RIS + text)).destination
    assert (found.protocol, found.objects, found.address) == (protocol, objects, address)
    assert (found.msh, found.fhir_version) == ("GENU|||", "R4")


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ('protocol = "mllp"\nport = 2575\n', 1, 'destination.0.host: Field required with protocol = "mllp"'),
        ('protocol = "fhir"\n', 1, 'destination.0.url: Field required with protocol = "fhir"'),
        ('url = "https://h/r4"\n', 1, 'ae_title: Field required with protocol = "dicom"'),
        ('protocol = "hl7"\nhost = "h"\n', 3, "protocol: Input should be 'dicom', 'mllp' or 'fhir'"),
        ('protocol = "mllp"\nhost = "h"\nport = 0\n', 5, "port: Input should be greater than or equal to 1"),
        ('protocol = "mllp"\nhost = "h"\nport = 1\nobjects = ["SR"]\n', 6, 'mllp carries only "HL7", not "SR"'),
        ('protocol = "fhir"\nurl = "http://h"\nobjects = ["HL7"]\n', 5, 'fhir carries only "FHIR", not "HL7"'),
        ('ae_title = "A"\nhost = "h"\nport = 1\nobjects = ["SR", "HL7"]\n', 6, '"HL7" is a message for a RIS'),
        ('protocol = "mllp"\nhost = "h"\nport = 1\nmsh = "A|B"\n', 6, "msh: four names separated by | are needed"),
        (
            'protocol = "mllp"\nhost = "h"\nport = 1\nmsh = "A|B|C|\\rD"\n',
            6,
            "msh: four names separated by | are needed",
        ),
        ('protocol = "fhir"\nurl = "fhir.example"\n', 4, "url: an address is https://host/path"),
        ('protocol = "fhir"\nurl = "https://me:hunter2@h/r4"\n', 4, "url: an address is https://host/path"),
        ('protocol = "fhir"\nurl = "https://h/r4?x=1"\n', 4, "url: an address is https://host/path"),
        ('protocol = "fhir"\nurl = "http://h/r4"\ntoken_file = "t"\n', 5, "token_file: http:// would send"),
        (
            'protocol = "fhir"\nurl = "http://h/r4"\n[destination.tls]\ncertificate = "c"\nkey = "k"\n',
            5,
            "tls: the url begins with http://",
        ),
    ],
)
def test_contradicting_keys_are_reported_with_their_line(text: str, line: int, what: str) -> None:
    """A destination that could never be sent to does not start the node."""
    message = error_of(RIS + text)
    assert f"site.toml, line {line}: " in message
    assert what in message
    assert "hunter2" not in message


def test_a_token_may_go_over_http_to_this_machine() -> None:
    """A proxy beside the node may do the encrypting."""
    text = 'protocol = "fhir"\nurl = "http://127.0.0.1:8080/fhir"\ntoken_file = "t"\n'
    assert load(written(RIS + text)).destination[0].token_file == Path("t")


def test_all_mistakes_are_reported_at_once() -> None:
    """Who has made three mistakes does not start the node three times to find them."""
    message = error_of("[receive]\nport = 0\nmax_associations = 0\n[work]\nmodell = 'x'\n")
    assert [re.findall(r"line \d", line) for line in message.splitlines()] == [["line 2"], ["line 3"], ["line 5"]]


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("GENU__RECEIVE__PORT", "dicom", "receive.port: Input should be a valid integer"),
        ("GENU__RECEIVE__PROT", "104", "receive.prot: unknown setting"),
        ("GENU__RECIEVE__PORT", "104", "unknown section"),
        ("Genu__Work__Attempts", "none", "work.attempts"),
        ("GENU__DESTINATION", '[{"name": "pacs", "ae_title": "A", "host": "h"}]', "destination.0.port: Field required"),
        ("GENU__DESTINATION", "pacs", "must be given as JSON"),
        ("GENU__RECEIVE", '{"port": 0}', "receive.port"),
    ],
)
def test_a_mistake_in_a_variable_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, what: str
) -> None:
    """The file is not blamed for what came from the environment, even if it sets the same key."""
    monkeypatch.setenv(name, value)
    message = error_of(LEAST)
    assert f"variable {name}: " in message
    assert what in message
    assert "line" not in message


def test_the_file_is_blamed_for_its_own_mistake_beside_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that sets another key of the same table is innocent."""
    monkeypatch.setenv("GENU__RECEIVE", '{"host": "0.0.0.0"}')
    assert "site.toml, line 2: receive.port" in error_of("[receive]\nport = 0\n")


def test_an_error_message_does_not_have_the_value() -> None:
    """Messages go to logs, and a value may be a password."""
    assert "hunter2" not in error_of('[admin]\nport = "hunter2"\npasword = "hunter2"\n')


def test_a_file_that_cannot_be_used_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Absent, a folder, not TOML, not text: each says which file and why."""
    for path, content, why in (
        (Path("absent.toml"), None, "cannot be read: No such file"),
        (Path(), None, "cannot be read: Is a directory"),
        (Path("half.toml"), b"[receive\nport = 1", "is not TOML: .*line 1"),
        (Path("twice.toml"), b"[work]\nattempts = 1\nattempts = 2\n", "is not TOML: .*line 3"),
        (Path("latin.toml"), "[receive]\n# größer\n".encode("latin-1"), "is not UTF-8"),
    ):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(SettingsError, match=why) as caught:
            load(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_two_nodes_side_by_side_share_nothing() -> None:
    """Different folders and ports in two files are all that two nodes on one machine need."""
    text = '[storage]\nfolder = "{0}"\n[receive]\nport = {1}\n[admin]\nport = {2}\n'
    first, second = (
        load(written(text.format(*values))) for values in (("/srv/a", 11112, 8080), ("/srv/b", 11113, 8081))
    )
    assert first.database_url == "sqlite:////srv/a/ledger.sqlite"
    assert second.database_url == "sqlite:////srv/b/ledger.sqlite"
    assert first.receive.port != second.receive.port
    assert first.admin.port != second.admin.port


def test_settings_cannot_be_changed() -> None:
    """What was read once holds for the life of the process."""
    found = load()
    with pytest.raises(ValidationError, match="frozen"):
        found.receive.port = 1


@pytest.mark.parametrize("title", ["GENU", "A", "ABCDEFGHIJKLMNOP", "KNEE AI", " padded ", "a~!]["])
def test_an_ae_title_may_be_what_the_standard_allows(title: str) -> None:
    """One to sixteen characters of ASCII, spaces around it not counted (PS3.5 6.2, VR AE)."""
    assert Destination(name="x", ae_title=title, host="h", port=1).ae_title == title.strip(" ")


@pytest.mark.parametrize("title", ["", "   ", "ABCDEFGHIJKLMNOPQ", "A\\B", "TAB\t", "LINE\n", "NUL\0", "GRÖSSE"])
def test_an_ae_title_is_refused_for_what_the_standard_does_not_allow(title: str) -> None:
    """Nothing, only spaces, too long, a backslash, a control character, or beyond ASCII."""
    with pytest.raises(ValidationError, match="an AE title has 1 to 16"):
        Destination(name="x", ae_title=title, host="h", port=1)


TRICKY = '''\
title = "no"   # 1
[receive] # the [admin] port
host = """
[work]
attempts = 9
"""
port = 11112

[ "destination" . defaults ]
a = 1
[[source]]
name = "one"
[[source]]
name = "two"
[source.tls]
"key" = "#not a comment"
[[source]]
name = "three"
list = [
    { name = "x" },
    [2],
]
'a.b'.c = 5
'''


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (("title",), 1),
        (("receive",), 2),
        (("receive", "host"), 3),
        (("receive", "port"), 7),
        (("receive", "absent"), 2),
        (("work", "attempts"), None),
        (("destination", "defaults", "a"), 10),
        (("source", 0, "name"), 12),
        (("source", 1, "name"), 14),
        (("source", 1, "tls"), 15),
        (("source", 1, "tls", "key"), 16),
        (("source", 1, "tls", "certificate"), 15),
        (("source", 2, "list", 0, "name"), 19),
        (("source", 2, "a.b", "c"), 23),
        (("source", 2, "a", "b"), 17),
        (("source", 9, "name"), 11),
        (("nothing",), None),
        ((), None),
    ],
)
def test_a_line_is_found_in_any_way_of_writing_toml(keys: tuple[str | int, ...], line: int | None) -> None:
    """Texts over several lines, quoted and dotted keys, comments, tables in arrays, inline tables."""
    assert line_of(TRICKY, keys) == line


KEYS = strategies.lists(strategies.text(max_size=4) | strategies.integers(0, 3), max_size=4).map(tuple)
TOMLISH = strategies.text(strategies.sampled_from("ab[]{}=.,\"'#\\ \n\r\t1-\0\u2028")) | strategies.text()


@given(text=TOMLISH, keys=KEYS)
@settings(max_examples=150, deadline=None)
def test_the_search_for_a_line_never_fails(text: str, keys: tuple[str | int, ...]) -> None:
    """With any text the search returns; the line is one that exists."""
    found = line_of(text, keys)
    assert found is None or 1 <= found <= text.count("\n") + 1


@pytest.mark.parametrize("text", ["[" * 5000, "[" + "a." * 5000 + "a]", "x = " + "[" * 5000, "a." * 3000 + "a = 1"])
def test_the_search_for_a_line_survives_deep_nesting(text: str) -> None:
    """Nesting that no settings have ends the search, not the program."""
    line_of(text, ("a", "a"))


def keys_of(table: type[object], prefix: str = "") -> Iterator[str]:
    for name, field in table.model_fields.items():  # type: ignore[attr-defined]
        kinds = [kind for kind in (field.annotation, *getattr(field.annotation, "__args__", ())) if kind]
        inner = [kind for kind in kinds if hasattr(kind, "model_fields")]
        yield from (key for kind in inner for key in keys_of(kind, f"{prefix}{name}."))
        if not inner:
            yield prefix + name
        if prefix:
            assert field.description, f"{prefix}{name} has no description"
            assert field.description.endswith("."), f"{prefix}{name}: a description is a sentence"


def test_the_table_of_settings_has_every_one_with_its_meaning() -> None:
    """What `genu check --help` prints leaves no setting out, and every one has a sentence."""
    listed = {f"{table.strip('[]')}.{key}" for table, keys in setting_tables() for key, _, _ in keys}
    assert listed == set(keys_of(Settings))
    message = settings_help()
    for table, keys in setting_tables():
        assert table in message.splitlines()
        for key, default, meaning in keys:
            assert re.search(rf"^  {key} +{re.escape(default)} +{re.escape(meaning)}$", message, re.MULTILINE)


def flat(table: dict[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        first = value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else value
        if isinstance(first, dict):
            yield from flat(first, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def test_the_example_file_changes_nothing() -> None:
    """Copied as it is, it is the same as no file at all."""
    assert load(EXAMPLE) == Settings()


def test_the_example_file_lists_every_setting_with_its_default_and_meaning() -> None:
    """With what is absent by default taken in, it has the keys that there are, each with its own sentence."""
    lines = [re.sub(r"^#(?=[a-z\[])", "", line) for line in EXAMPLE.read_text(encoding="utf-8").splitlines()]
    shown = dict(flat(tomllib.loads("\n".join(lines))))
    assert set(shown) == set(keys_of(Settings))
    expected = [(key, default, meaning) for _, keys in setting_tables() for key, default, meaning in keys]
    settings_ = [line for line in lines if re.match(r"[a-z_]+ = ", line)]
    for line, (key, default, meaning) in zip(settings_, expected, strict=True):
        value = line.removeprefix(f"{key} = ").removesuffix(f"  # {meaning}")
        assert line == f"{key} = {value}  # {meaning}"
        assert default in ("required", "absent", value)
    Path("full.toml").write_text("\n".join(lines), encoding="utf-8")
    assert load(Path("full.toml")).receive.tls is not None
