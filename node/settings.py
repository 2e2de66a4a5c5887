"""The settings: one genu.toml and GENU__SECTION__KEY variables, read once; every key has a default and a reason."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from node.errors import SettingsError

AETitle = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$")]
Port = Annotated[int, Field(ge=1, le=65535)]
ObjectKind = Literal["SC", "SR"]


class Section(BaseModel):
    """A table of genu.toml. It cannot be changed, and a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Storage(Section):
    folder: Path = Field(Path("data"), description="Where everything is kept: radiographs, results, ledger, broker.")
    min_free_mb: int = Field(500, ge=0, description="Below this much free disk, new objects are answered 0xA700.")


class Tls(Section):
    certificate: Path = Field(description="This node's certificate chain, PEM.")
    key: Path = Field(description="Its private key, PEM, without a passphrase.")
    ca: Path | None = Field(None, description="Certificates that the peer's must descend from, PEM.")
    require_peer_certificate: bool = Field(True, description="Refuse a peer that shows no certificate of `ca`.")


class Receive(Section):
    ae_title: AETitle = Field("GENU", description="AE title that the PACS sends to.")
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: Port = Field(11112, description="DICOM port.")
    check_called_ae_title: bool = Field(False, description="Refuse associations that call another AE title.")
    known_sources_only: bool = Field(False, description="Refuse AE titles and hosts that no [[source]] names.")
    max_associations: int = Field(50, ge=1, le=200, description="Associations at the same time.")
    max_pdu_bytes: int = Field(131072, ge=4096, le=1048576, description="Largest PDU taken; DCMTK sends 131072.")
    max_object_mb: int = Field(512, ge=1, description="Largest object taken.")
    idle_seconds: float = Field(60, gt=0, description="An association that says nothing for so long is aborted.")
    stall_seconds: float = Field(6, gt=0, description="A PDU that has begun must be complete after so long.")
    tls: Tls | None = Field(None, description="Given: the port speaks TLS (usual port 2762), and nothing else.")


class Source(Section):
    name: str = Field(description="What you call this sender.")
    ae_title: AETitle = Field(description="Its calling AE title.")
    host: str | None = Field(None, description="Its address; absent means any.")


class Destination(Section):
    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9_-]+$", description="What you call this receiver.")
    ae_title: AETitle = Field(description="Its AE title.")
    host: str = Field(description="Its address.")
    port: Port = Field(description="Its DICOM port.")
    calling_ae_title: AETitle = Field("GENU", description="AE title that Genu calls itself towards it.")
    objects: tuple[ObjectKind, ...] = Field(("SC", "SR"), description="What it gets.")
    tls: Tls | None = Field(None, description="Given: the connection is encrypted.")


class Work(Section):
    model: str = Field("kl-lite0", description="The model that answers: a card's name in workers/cards.")
    processes: int = Field(1, ge=0, le=64, description="Worker processes that `genu run` starts.")
    threads: int = Field(0, ge=0, description="Threads of each worker's network; 0 lets the engine choose.")
    lease_seconds: float = Field(120, gt=0, description="A worker silent for so long has lost its radiograph.")
    attempts: int = Field(3, ge=1, description="How often a radiograph is tried before it is FAILED.")
    decode_seconds: float = Field(30, gt=0, description="Longest time one image may take to decode.")
    decode_memory_mb: int = Field(3072, ge=256, description="Most memory that decoding may take.")
    max_megapixels: float = Field(120, gt=0, description="Largest image that is read.")
    grade_for_processing: bool = Field(False, description="Grade raw detector data too (not advised).")
    report_refusals: bool = Field(True, description="Send a Structured Report that says why there is no grade.")
    sr_class: Literal["comprehensive", "comprehensive-3d"] = Field(
        "comprehensive", description="SOP class of the report; comprehensive-3d where IHE AIR is asked for."
    )


class Deliver(Section):
    first_pause_seconds: float = Field(5, gt=0, description="Pause after the first failure; it doubles from there.")
    longest_pause_seconds: float = Field(900, gt=0, description="It never grows beyond this, and never ends.")
    connect_seconds: float = Field(10, gt=0, description="Time for a destination to answer the connection.")
    response_seconds: float = Field(60, gt=0, description="Time for a destination to answer one object.")
    failures_until_down: int = Field(3, ge=1, description="After so many in a row a destination is shown as down.")


class Admin(Section):
    host: str = Field("127.0.0.1", description="Address of the web page.")
    port: Port = Field(8080, description="Port of the web page.")
    password: str = Field("", description="Set it here, or let the first start choose and print one.")
    session_hours: float = Field(8, gt=0, description="How long a sign-in lasts.")


class Broker(Section):
    url: str = Field("", description="redis://... ; empty starts an embedded Valkey on loopback.")
    sweep_seconds: float = Field(10, gt=0, le=30, description="How often unfinished work is asked for again.")


class Database(Section):
    url: str = Field("", description="SQLAlchemy URL; empty is a SQLite file in the storage folder.")


class Settings(BaseSettings):
    """All settings. Build it with `load`; hand it, or the part that is needed, to constructors."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="GENU__", env_nested_delimiter="__", case_sensitive=False
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

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings  # a variable wins over the file

    @property
    def database_url(self) -> str:
        """The ledger's SQLAlchemy URL."""
        return self.database.url or f"sqlite:///{self.storage.folder.absolute() / 'ledger.sqlite'}"


def load(path: Path | None = None) -> Settings:
    """
    Read `path`, or genu.toml in the working folder if there is one, or neither: the embedded defaults.

    Raises
    ------
    SettingsError
        For a file that is absent or no TOML, and for every unknown key and wrong value, with its line.
    """
    if path is None and Path("genu.toml").is_file():
        path = Path("genu.toml")
    text = ""
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"the settings file {path} cannot be read: {error.strerror}") from error
    try:
        return Settings(**tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        told = [_explain(problem, path, text) for problem in error.errors(include_url=False)]
        raise SettingsError("\n".join(told), hint="`genu check --help` lists every setting") from error


def _explain(problem: Any, path: Path | None, text: str) -> str:
    keys = [str(key) for key in problem["loc"]]
    message = "unknown setting" if problem["type"] == "extra_forbidden" else problem["msg"]
    line = line_of(text, problem["loc"])
    where = f"{path}, line {line}" if line else "variable GENU__" + "__".join(keys).upper()
    return f"{where}: {'.'.join(keys)}: {message}"


def line_of(text: str, keys: tuple[str | int, ...]) -> int | None:
    """The line, counted from 1, where `keys` (table, index of an array of tables, key) stand in a TOML text."""
    if not keys:
        return None
    table, wanted = str(keys[0]), keys[1] if len(keys) > 1 and isinstance(keys[1], int) else None
    name = next((str(key) for key in reversed(keys) if not isinstance(key, int)), "")
    inside, seen, heading = False, -1, None
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.split("#")[0].strip()
        if stripped.startswith("["):
            inside = stripped.strip("[]").split(".")[0].strip() == table
            seen += inside and stripped.startswith("[[")
            inside = inside and wanted in (None, seen)
            heading = number if inside and heading is None else heading
        elif inside and stripped.split("=")[0].strip() == name:
            return number
    return heading
