"""Serves ``/metrics`` and ``/healthz`` on loopback: ``python -m k2_platform.metrics_exporter``.

It keeps nothing that it could lose: every figure is read from Kafka, the Iceberg catalog, Dagster's storage or the
file of counts.
"""

import errno
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from http import HTTPStatus
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import dagster as dg
from prometheus_client import CollectorRegistry, make_wsgi_app
from pyiceberg.catalog import Catalog

from k2_assets.checks import check_keys
from k2_market.browser_requests import METRICS, OwnHosts, WebRequest, refusal
from k2_market.errors import K2Error
from k2_market.feeds.feed import load_feeds
from k2_market.kinds.shipped import KINDS
from k2_resources.exporter.automation_facts import AutomationFacts
from k2_resources.exporter.check_facts import CheckFacts
from k2_resources.exporter.disk_use import DiskFacts, data_paths
from k2_resources.exporter.kafka_facts import KafkaFacts
from k2_resources.exporter.materialization_facts import MaterializationFacts
from k2_resources.exporter.page import Part, metrics_page
from k2_resources.exporter.run_facts import RunFacts
from k2_resources.exporter.table_facts import TableFacts
from k2_resources.homes.home_format import installed_version
from k2_resources.iceberg.catalog import open_catalog
from k2_resources.logs.structured_logging import configure_logging, get_logger
from k2_resources.metrics.event_counts import EventCounts, keep_counts
from k2_resources.settings import Settings

_log = get_logger("exporter")


class ExporterPortTaken(K2Error):
    """Another process listens on the exporter's port."""


class NotSetUp(K2Error):
    """Something that the exporter reads is not there yet; it only reads, and makes nothing."""


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = Settings.load()
    configure_logging("exporter", settings)
    keep_counts(settings)
    server = exporter_server(settings)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    serving = threading.Thread(target=server.serve_forever, name="k2-exporter", daemon=True)
    serving.start()
    _log.info("exporter started", url=f"http://{settings.metrics_host}:{server.server_port}/metrics")
    stop.wait()
    server.shutdown()
    server.server_close()
    _log.info("exporter stopped")


def exporter_server(settings: Settings) -> WSGIServer:
    """Return the HTTP server, bound to ``settings.metrics_port`` and not serving yet.

    Raises:
        ExporterPortTaken: Something else listens there.
        FeedFileError: A feed's file is wrong.
    """
    registry = metrics_page(platform_parts(settings), settings.environment, installed_version())
    try:
        address = (settings.metrics_host, settings.metrics_port)
        return make_server(*address, _routes(registry, settings.own_hosts), _ThreadingServer, _QuietHandler)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise ExporterPortTaken(
            f"port {settings.metrics_port} on {settings.metrics_host} is taken; stop what listens there, or set "
            "K2_METRICS_PORT"
        ) from error


def platform_parts(settings: Settings) -> list[Part]:
    """Return all sources of figures; each opens what it reads when it is first asked."""
    feeds = list(load_feeds(settings.feed_directories).values())
    catalog = cache(partial(_catalog, settings))
    instance = cache(partial(_dagster, settings))
    checks = [key for feed in feeds for key in check_keys(feed.name, KINDS)]
    return [
        KafkaFacts(settings.bootstrap_servers, catalog, feeds, KINDS),
        TableFacts(catalog, feeds, KINDS),
        MaterializationFacts(instance, feeds, sorted({key.asset_key for key in checks})),
        CheckFacts(instance, feeds, checks),
        RunFacts(instance),
        AutomationFacts(instance),
        DiskFacts(data_paths(settings)),
        EventCounts(settings),
    ]


def _catalog(settings: Settings) -> Catalog:
    uri = settings.iceberg_catalog_uri
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise NotSetUp(f"{uri}: no catalog yet; the first ingest makes it")
    return open_catalog(uri, settings.iceberg_warehouse)


def _dagster(settings: Settings) -> dg.DagsterInstance:
    # Opening an instance or a catalog sets its storage up; two processes that do so at once get in each other's way.
    if not (settings.dagster_home / "dagster.yaml").exists():
        raise NotSetUp(f"{settings.dagster_home} holds no dagster.yaml; `k2 up` writes it")
    return dg.DagsterInstance.from_config(str(settings.dagster_home))


def _routes(
    registry: CollectorRegistry, own: OwnHosts
) -> Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]:
    metrics: Callable[..., Iterable[bytes]] = make_wsgi_app(registry)

    def route(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        refused = refusal(_request(environ), METRICS, own)
        if refused is not None:
            return _text(start_response, HTTPStatus(refused.status), refused.reason)
        if environ["PATH_INFO"] == "/metrics":
            return metrics(environ, start_response)
        if environ["PATH_INFO"] == "/healthz":
            return _text(start_response, HTTPStatus.OK, "ok")
        return _text(start_response, HTTPStatus.NOT_FOUND, "Here are /metrics and /healthz.")

    return route


def _request(environ: Mapping[str, Any]) -> WebRequest:
    return WebRequest(
        method=environ["REQUEST_METHOD"],
        path=environ["PATH_INFO"],
        query=environ["QUERY_STRING"],
        headers=tuple(
            (name.removeprefix("HTTP_").replace("_", "-").lower(), value)
            for name, value in environ.items()
            if name.startswith("HTTP_")
        ),
    )


def _text(start_response: Callable[..., Any], status: HTTPStatus, text: str) -> Iterable[bytes]:
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff")]
    start_response(f"{status.value} {status.phrase}", headers)
    return [f"{text}\n".encode()]


class _ThreadingServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing, since there would be a line for each scrape."""


if __name__ == "__main__":
    try:
        main()
    except K2Error as error:
        _log.error("exporter can't start", error=str(error))
        sys.exit(f"k2: {error}")
