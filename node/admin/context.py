"""What the pages work with: one of each, made when the application is."""

from dataclasses import dataclass
from typing import cast

from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.templating import Jinja2Templates

from node.admin.authentication import Brake, Password, Sessions
from node.admin.health import Watch
from node.ledger import Ledger
from node.settings import Settings
from node.storage import Vault


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Everything that a page may need; nothing is global."""

    settings: Settings
    vault: Vault
    ledger: Ledger
    watch: Watch
    password: Password
    sessions: Sessions
    brake: Brake
    registry: CollectorRegistry
    templates: Jinja2Templates


def desk_of(request: Request) -> Desk:
    return cast(Desk, request.app.state.desk)
