"""The settings: genu.toml and GENU__SECTION__KEY variables, read once. Every key has a default and a description."""

import json
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableVariable

from node.destination import (
    DEFAULT_OBJECTS,
    OPTIONAL_KINDS,
    REQUIRED_KEYS,
    AETitle,
    Destination,
    ObjectKind,
    Port,
    Section,
    Tls,
)
from node.errors import SettingsError
from node.toml_lines import line_of

__all__ = [
    "DEFAULT_OBJECTS",
    "OPTIONAL_KINDS",
    "Admin",
    "Broker",
    "Database",
    "Deliver",
    "Destination",
    "ObjectKind",
    "Receive",
    "Settings",
    "Source",
    "Storage",
    "Tls",
    "Work",
    "load",
    "setting_tables",
    "settings_help",
]

PREFIX = "GENU__"


class Storage(Section):
    folder: Path = Field(
        Path("data"), description="Folder of everything that is stored: radiographs, results, ledger, broker."
    )
    min_free_mb: int = Field(
        500, ge=0, description="With less free disk than this, new objects are refused with 0xA700."
    )


class Receive(Section):
    ae_title: AETitle = Field("GENU", description="AE title that the PACS sends to.")
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: Port = Field(11112, description="DICOM port.")
    check_called_ae_title: bool = Field(False, description="Refuse associations that call another AE title.")
    known_sources_only: bool = Field(False, description="Refuse AE titles and hosts that no [[source]] names.")
    max_associations: int = Field(50, ge=1, le=200, description="Associations at the same time.")
    max_pdu_bytes: int = Field(131072, ge=4096, le=1048576, description="Largest PDU accepted; DCMTK sends 131072.")
    max_object_mb: int = Field(512, ge=1, description="Largest object accepted.")
    idle_seconds: float = Field(60, gt=0, description="An association that is idle for so long is aborted.")
    stall_seconds: float = Field(6, gt=0, description="A PDU must be complete so long after its first byte.")
    tls: Tls | None = Field(None, description="If given, the port accepts TLS only (usual port 2762).")


class Source(Section):
    name: str = Field(description="Your name for this sender.")
    ae_title: AETitle = Field(description="Its calling AE title.")
    host: str | None = Field(None, description="Its address; if absent, any.")


class Work(Section):
    model: str = Field("", description="Card of the active model; empty: the one that was promoted last.")
    shadow: str = Field("", description="Card of a shadow model; its readings are stored and never sent.")
    engine: Literal["", "openvino", "torch"] = Field(
        "", description="Inference engine; empty: the one that the card names."
    )
    processes: int = Field(1, ge=0, le=64, description="Worker processes that `genu run` starts.")
    threads: int = Field(0, ge=0, description="Threads of each worker's network; 0 lets the engine choose.")
    lease_seconds: float = Field(
        120, gt=0, description="A worker that does not renew its lease for so long loses its radiograph."
    )
    attempts: int = Field(3, ge=1, description="Attempts at a radiograph before it is FAILED.")
    decode_seconds: float = Field(30, gt=0, description="Longest time one image may take to decode.")
    decode_memory_mb: int = Field(3072, ge=256, description="Largest memory that decoding may use.")
    max_megapixels: float = Field(120, gt=0, description="Largest image that is read.")
    grade_for_processing: bool = Field(False, description="Grade raw detector data too (not advised).")
    youngest: int = Field(
        18, ge=0, le=120, description="Years; younger patients are not graded. An unknown age is flagged."
    )
    side_conflict: Literal["flag", "refuse"] = Field(
        "flag", description="A knee with conflicting laterality: flag it, or refuse to grade it as well."
    )
    red_flag: Literal["show", "withhold"] = Field(
        "show",
        description="A grade that may depend on something beside the joint: show it with a flag, or withhold it.",
    )
    report_refusals: bool = Field(True, description="Send a Structured Report with the reason if there is no grade.")
    picture_long_side: int = Field(
        480,
        ge=400,
        le=2048,
        description="Height of the pages of the Secondary Capture, pixels; 480: two knees take 8 MB.",
    )
    sr_class: Literal["comprehensive", "comprehensive-3d"] = Field(
        "comprehensive", description="SOP class of the report; comprehensive-3d where IHE AIR is required."
    )


class Deliver(Section):
    first_pause_seconds: float = Field(
        5, gt=0, description="Pause after the first failure; it doubles after each further one."
    )
    longest_pause_seconds: float = Field(900, gt=0, description="Longest pause; deliveries are retried without end.")
    connect_seconds: float = Field(10, gt=0, description="Time for a destination to accept a connection.")
    response_seconds: float = Field(60, gt=0, description="Time for a destination to respond to one object.")
    failures_until_down: int = Field(3, ge=1, description="Consecutive failures after which a destination is down.")


class Admin(Section):
    host: str = Field("127.0.0.1", description="Address of the web page.")
    port: Port = Field(8080, description="Port of the web page.")
    password: str = Field("", description="If empty, the first start generates and prints one.")
    session_hours: float = Field(8, gt=0, description="How long a sign-in lasts.")


class Broker(Section):
    url: str = Field("", description="redis://... ; empty starts an embedded Valkey on loopback.")
    sweep_seconds: float = Field(
        10, gt=0, le=30, description="Interval at which unfinished radiographs are published again."
    )


class Database(Section):
    url: str = Field("", description="SQLAlchemy URL; empty is a SQLite file in the storage folder.")


class Settings(BaseSettings):
    """All settings. Create it with `load`; pass it, or the section that is needed, to constructors."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter="__", case_sensitive=False
    )

    storage: Storage = Storage()
    receive: Receive = Receive()
    source: tuple[Source, ...] = ()
    destination: tuple[Destination, ...] = ()
    work: Work = Work()
    deliver: Deliver = Deliver()
    admin: Admin = Admin()
    broker: Broker = Broker()
    database: Database = Database()

    @field_validator("source", "destination")
    @classmethod
    def _check_unique_names(cls, peers: tuple[Any, ...]) -> tuple[Any, ...]:
        """Names must be unique: deliveries are stored under the destination's name."""
        names = [peer.name for peer in peers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{names.count(name)} tables have the name {name!r}; names must be unique")
        return peers

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings  # a variable overrides the file

    @property
    def database_url(self) -> str:
        """The ledger's SQLAlchemy URL."""
        return self.database.url or f"sqlite:///{self.storage.folder.absolute() / 'ledger.sqlite'}"


def load(path: Path | None = None) -> Settings:
    """
    Load the settings of `path`, or of genu.toml in the working folder if it exists, or the embedded defaults.

    Raises
    ------
    SettingsError
        For a file that is absent or not TOML, and for every unknown key and wrong value, with its line or variable.
    """
    if path is None and Path("genu.toml").is_file():
        path = Path("genu.toml")
    text = "" if path is None else _read(path)
    hint = "`genu check --help` lists every setting"
    unknown = [name for name in sorted(os.environ) if _is_unknown(name)]
    if unknown:
        raise SettingsError("\n".join(f"variable {name}: unknown section" for name in unknown), hint=hint)
    try:
        return Settings(**tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error
    except UnreadableVariable as error:
        # Its text is: error parsing value for field "destination" from source "EnvSettingsSource".
        name = PREFIX + str(error).split('"')[1].upper()
        what = f"variable {name}: a whole table must be given as JSON, here and in variables that begin with this name"
        raise SettingsError(what, hint=hint) from error
    except ValidationError as error:
        messages = [_explain(problem, path, text) for problem in error.errors(include_url=False)]
        raise SettingsError("\n".join(messages), hint=hint) from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors write a byte order mark
    except OSError as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"the settings file {path} is not UTF-8", hint="save it as UTF-8 text") from error


def _is_unknown(variable: str) -> bool:
    section = variable.upper().removeprefix(PREFIX).split("__")[0].lower()
    return variable.upper().startswith(PREFIX) and section not in Settings.model_fields


def _explain(problem: Any, path: Path | None, text: str) -> str:
    """Location, key and cause of a wrong setting. Its value may be secret and is left out."""
    keys = tuple(problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        message = "unknown setting"
    variable, line = _variable_of(keys), line_of(text, keys)
    where = f"variable {variable}" if variable else f"{path}, line {line}" if line else str(path or "settings")
    return f"{where}: {'.'.join(str(key) for key in keys)}: {message}"


def _variable_of(keys: tuple[str | int, ...]) -> str | None:
    """The variable that sets `keys`, if any: it overrides the file, so the mistake is there."""
    present = {name.upper(): name for name in os.environ}
    for length in range(len(keys), 0, -1):
        name = present.get(PREFIX + "__".join(str(key) for key in keys[:length]).upper())
        if name and (length == len(keys) or _has_key(os.environ[name], keys[length])):
            return name
    return None


def _has_key(value: str, key: str | int) -> bool:
    """Whether a table given as JSON has the key. A list is never merged with the file, so it has all its items."""
    content = json.loads(value)
    return isinstance(content, list) or (isinstance(content, dict) and key in content)


def settings_help() -> str:
    """Every setting with its default and description, as text for a terminal."""
    tables = list(setting_tables())
    keys = [key for _, rows in tables for key in rows]
    name_width, default_width = (max(len(key[column]) for key in keys) for column in (0, 1))
    lines = []
    for heading, rows in tables:
        lines += ["", heading]
        lines += [f"  {name:{name_width}}  {default:{default_width}}  {text}" for name, default, text in rows]
    return "\n".join(lines[1:])


def setting_tables() -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Every table of genu.toml: its heading, and its keys as (name, default in TOML, description)."""
    for name, field in Settings.model_fields.items():
        is_array = name in ("source", "destination")
        kind: type[Section] = get_args(field.annotation)[0] if is_array else field.annotation  # type: ignore[assignment]
        yield f"[[{name}]]" if is_array else f"[{name}]", list(_keys(kind))
        if "tls" in kind.model_fields:
            yield f"[{name}.tls]", list(_keys(Tls))


def _keys(kind: type[Section]) -> Iterator[tuple[str, str, str]]:
    for name, field in kind.model_fields.items():
        if name != "tls":
            required = field.is_required() or (kind is Destination and name in REQUIRED_KEYS["dicom"])
            yield name, "required" if required else _as_toml(field.default), field.description or ""


def _as_toml(value: Any) -> str:
    if value is None:
        return "absent"
    return json.dumps(value, default=str)
