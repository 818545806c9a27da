"""Sends alerts to the log, or to a webhook that takes Slack's JSON."""

import ipaddress
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol
from urllib.parse import urlsplit

import dagster as dg
import httpx2

from k2_market.alerting.alerts import Alert
from k2_market.errors import K2Error
from k2_market.quality.finding import Severity
from k2_resources.alerts.slack_message import slack_message
from k2_resources.logs.structured_logging import get_logger
from k2_resources.metrics.event_counts import count_call, counter, histogram
from k2_resources.runtime.retry_policy import RetryPolicy
from k2_resources.secret_redaction import SecretRedaction

TIMEOUT_SECONDS = 5.0
_JSON = {"Content-Type": "application/json; charset=utf-8"}
_log = get_logger("alerts")


class AlertNotSent(K2Error):
    """A sink did not take an alert; the sender must try again later."""


class WebhookRefused(K2Error):
    """A webhook's URL is not one that alerts are posted to."""


class AlertSink(Protocol):
    """Takes alerts."""

    def send(self, alert: Alert) -> None:
        """Hand an alert over.

        Raises:
            AlertNotSent: It was not taken.
        """


class LogSink:
    """Writes alerts to the log: errors as errors, warnings as warnings."""

    def __init__(self, run_url: Callable[[str], str]) -> None:
        self._run_url = run_url

    def send(self, alert: Alert) -> None:
        """Write one line."""
        write_line(alert, self._run_url(alert.run_id or ""))
        counter("k2_alerts_total").add(sink="log", outcome="sent")


@dataclass(frozen=True)
class WebhookSink:
    """Posts alerts to a webhook, and writes those that were taken to the log.

    Attributes:
        url: ``https``, or ``http`` on loopback. A secret: its path is the permission to post.
        run_url: Where a run can be looked at; of no id, all runs.
        retry: How a post is tried again; the default is #006's.
    """

    url: str = field(repr=False)
    run_url: Callable[[str], str]
    retry: RetryPolicy = field(default_factory=lambda: RetryPolicy(_may_pass, observe=count_call))

    def __post_init__(self) -> None:
        check_webhook_url(self.url)

    def send(self, alert: Alert) -> None:
        """Post the alert.

        Raises:
            AlertNotSent: The webhook could not be reached or answered anything but success.
        """
        run_url = self.run_url(alert.run_id or "")
        message = slack_message(alert, run_url, SecretRedaction.of([self.url]))
        try:
            with histogram("k2_alert_send_duration_seconds").time(sink="webhook"):
                self.retry.call(self._post, json.dumps(message).encode())
        except _Failure as failure:
            counter("k2_alerts_total").add(sink="webhook", outcome="failed")
            raise AlertNotSent(
                f"alert {alert.title!r} was not taken by the webhook at {_origin(self.url)}: {failure}. It will be "
                "tried again; if that goes on, check K2_ALERT_WEBHOOK."
            ) from None
        counter("k2_alerts_total").add(sink="webhook", outcome="sent")
        write_line(alert, run_url)

    def _post(self, body: bytes) -> None:
        _refuse_link_local(self.url)
        # Alerts for loopback go there directly, whatever proxy the environment names. A redirect could lead a request
        # in K2's name anywhere, so it is not followed: it counts as an answer that is not success.
        client = httpx2.Client(timeout=TIMEOUT_SECONDS, trust_env=self.url.startswith("https:"))
        try:
            with client, client.stream("POST", self.url, content=body, headers=_JSON) as response:
                status = response.status_code
        except httpx2.TransportError as error:
            raise _TransientFailure(f"{type(error).__name__}: {error}") from None
        if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _TransientFailure(f"it answered {status}")
        if not 200 <= status < 300:
            raise _Failure(f"it answered {status}")


class AlertSinkResource(dg.ConfigurableResource[AlertSink]):
    """Hands out the sink that the settings ask for.

    Attributes:
        webhook: Where to post; None or empty means the log.
        dagster_url: Base of the UI, for links to runs.
    """

    webhook: str | None = None
    dagster_url: str = "http://127.0.0.1:3000"

    def sink(self) -> AlertSink:
        """Return the sink.

        Raises:
            WebhookRefused: The webhook's URL is not ``https``, nor ``http`` on loopback.
        """

        def run_url(run_id: str) -> str:
            return f"{self.dagster_url.rstrip('/')}/runs/{run_id}".rstrip("/")

        return WebhookSink(self.webhook, run_url) if self.webhook else LogSink(run_url)


def check_webhook_url(url: str) -> None:
    """See that a URL is ``https``, or ``http`` on loopback, and holds no credentials.

    Raises:
        WebhookRefused: It is not; the message does not show it whole.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise WebhookRefused("the alert webhook is not a URL; check K2_ALERT_WEBHOOK") from error
    if parts.scheme == "https" and host and not parts.username:
        return
    if parts.scheme == "http" and host in ("127.0.0.1", "::1", "localhost") and not parts.username:
        return
    raise WebhookRefused(
        f"the alert webhook begins with {parts.scheme}://{host}: expected https, or http on loopback, without user "
        "and password; check K2_ALERT_WEBHOOK"
    )


def write_line(alert: Alert, run_url: str) -> None:
    """Write an alert to the log."""
    write = _log.error if alert.severity is Severity.ERROR else _log.warning
    write(
        "alert",
        title=alert.title,
        kind=alert.kind.value,
        feed=alert.feed,
        day=alert.day,
        subject=alert.subject,
        check=alert.check,
        reason=alert.message,
        numbers=dict(alert.numbers),
        examples=[dict(each) for each in alert.examples[:3]],
        run_id=alert.run_id,
        run_url=run_url,
    )


class _Failure(Exception):
    """A post failed."""


class _TransientFailure(_Failure):
    """A post failed and may succeed if tried again."""


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, _TransientFailure)


def _refuse_link_local(url: str) -> None:
    """Cloud metadata services live on link-local addresses; no webhook does."""
    host = urlsplit(url).hostname
    try:
        addresses = {ipaddress.ip_address(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise _TransientFailure(f"{host}: {error}") from None
    if any(each.is_link_local or each.is_multicast or each.is_unspecified for each in addresses):
        raise _Failure(f"{host} has a link-local address")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
