"""Serves Dagster's UI, closed to pages of other sites (#048): ``python -m k2_cli.stack.guarded_webserver -w FILE``.

It takes the place of ``dagster-webserver``: the same application on the same home, with ``BrowserGuard`` around it, in
the same process. This is the one module that leans on how Dagster makes that application, which is not documented: what
of it moves fails here when the process starts, and is named by tests/integration/test_guarded_webserver.py.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from dagster import DagsterInstance
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from dagster_webserver.cli import (
    DEFAULT_DB_STATEMENT_TIMEOUT,
    DEFAULT_POOL_MAX_OVERFLOW,
    DEFAULT_POOL_RECYCLE,
)
from dagster_webserver.version import __version__ as webserver_version
from starlette.applications import Starlette

from k2_market.browser_requests import DAGSTER
from k2_resources.logs.structured_logging import configure_logging
from k2_resources.settings import Settings
from k2_resources.web.browser_guard import BrowserGuard

_POLL_MILLISECONDS = 2_000
"""Interval at which the UI asks for asset data, in milliseconds: Dagster's own default."""
_SECONDS_TO_END = 5


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m k2_cli.stack.guarded_webserver", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, default=3000)
    parser.add_argument("--workspace", type=Path, required=True, help="Dagster's workspace.yaml")
    options = parser.parse_args()
    settings = Settings.load()
    configure_logging("webserver", settings)
    with dagster_application(options.workspace) as application:
        uvicorn.run(
            BrowserGuard(application, DAGSTER, settings.own_hosts),
            host=options.host,
            port=options.port,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=_SECONDS_TO_END,
        )


@contextmanager
def dagster_application(workspace: Path) -> Iterator[Starlette]:
    """Build the webserver's application, unguarded, on the Dagster home of ``DAGSTER_HOME``."""
    with DagsterInstance.get() as instance:
        instance.optimize_for_webserver(DEFAULT_DB_STATEMENT_TIMEOUT, DEFAULT_POOL_RECYCLE, DEFAULT_POOL_MAX_OVERFLOW)
        target = WorkspaceFileTarget([str(workspace)])
        with WorkspaceProcessContext(instance, target, version=webserver_version) as context:
            yield create_app_from_workspace_process_context(context, live_data_poll_rate=_POLL_MILLISECONDS)


if __name__ == "__main__":
    main()
