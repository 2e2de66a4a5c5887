"""The objects that the endpoints of the admin application share, created once with the application."""

from dataclasses import dataclass
from typing import cast

from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.templating import Jinja2Templates

from node.admin.authentication import LoginThrottle, Password, Sessions
from node.admin.health import ReadinessMonitor
from node.ledger import Ledger
from node.settings import Settings
from node.storage import Vault


@dataclass(frozen=True, kw_only=True)
class AdminContext:
    """Everything that an endpoint may need; nothing is global."""

    settings: Settings
    vault: Vault
    ledger: Ledger
    readiness_monitor: ReadinessMonitor
    password: Password
    sessions: Sessions
    login_throttle: LoginThrottle
    registry: CollectorRegistry
    templates: Jinja2Templates


def context_of(request: Request) -> AdminContext:
    """The context of the application that received the request."""
    return cast(AdminContext, request.app.state.context)
