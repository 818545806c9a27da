import dataclasses
import json
import socket
import threading
from collections.abc import Iterator

import dagster as dg
import pytest
from alert_examples import example_alert
from webhook import Webhook, running_webhook

from k2_resources.alerts.sink import (
    AlertNotSent,
    AlertSinkResource,
    LogSink,
    WebhookRefused,
    WebhookSink,
    check_webhook_url,
)
from k2_resources.metrics import event_counts
from k2_resources.metrics.figures import Figures
from k2_resources.runtime.retry_policy import RetryPolicy

WAITS: list[float] = []


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with running_webhook() as running:
        yield running


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Figures:
    figures = Figures()
    monkeypatch.setattr(event_counts, "_counted", figures)
    return figures


def run_url(run_id: str) -> str:
    return f"http://127.0.0.1:3000/runs/{run_id}"


def sink(webhook: Webhook) -> WebhookSink:
    WAITS.clear()
    made = WebhookSink(webhook.url, run_url)
    return dataclasses.replace(made, retry=dataclasses.replace(made.retry, sleep=WAITS.append))


def test_an_alert_is_posted_as_slack_json(webhook: Webhook, counted: Figures) -> None:
    sink(webhook).send(example_alert())

    (post,) = webhook.posts
    assert post["text"] == ":red_circle: asx/trades 2014-03-11: prices_positive failed"
    assert run_url("0123456789") in json.dumps(post)
    assert webhook.paths == ["/services/T0/B0/s3cret"]
    assert counted.counts().counters["k2_alerts_total", ("webhook", "sent")] == 1


def test_a_webhook_that_stumbles_gets_the_alert_once_it_stands(webhook: Webhook, counted: Figures) -> None:
    webhook.answers = [500, 429, 503]
    sink(webhook).send(example_alert())

    assert len(webhook.posts) == 4
    assert WAITS == [0.1, 0.2, 0.4]
    assert len(webhook.taken) == 1


def test_a_webhook_that_stays_down_is_an_error_that_does_not_show_its_secret(
    webhook: Webhook, counted: Figures
) -> None:
    webhook.answers = [500] * 9
    with pytest.raises(AlertNotSent) as raised:
        sink(webhook).send(example_alert())

    assert len(webhook.posts) == 4
    assert "answered 500" in str(raised.value)
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert counted.counts().counters["k2_alerts_total", ("webhook", "failed")] == 1


def test_a_webhook_that_refuses_is_not_asked_again(webhook: Webhook) -> None:
    webhook.answers = [404]
    with pytest.raises(AlertNotSent, match="answered 404"):
        sink(webhook).send(example_alert())

    assert len(webhook.posts) == 1


def test_a_redirect_is_not_followed(webhook: Webhook) -> None:
    with running_webhook() as elsewhere:
        webhook.answers = [302]
        webhook.headers = {"Location": elsewhere.url}
        with pytest.raises(AlertNotSent, match="answered 302"):
            sink(webhook).send(example_alert())

        assert elsewhere.posts == []


def test_nobody_listening_is_an_alert_not_sent() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    policy = RetryPolicy(lambda error: False)
    with pytest.raises(AlertNotSent, match="Connection refused"):
        WebhookSink(f"http://127.0.0.1:{port}/s3cret", run_url, policy).send(example_alert())


def test_a_webhook_that_hangs_up_is_an_alert_not_sent() -> None:
    with socket.socket() as rude:
        rude.bind(("127.0.0.1", 0))
        rude.listen()
        port = rude.getsockname()[1]
        policy = RetryPolicy(lambda error: False)

        def hang_up() -> None:
            rude.settimeout(5)
            connection, _ = rude.accept()
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(AlertNotSent):
            WebhookSink(f"http://127.0.0.1:{port}/s3cret", run_url, policy).send(example_alert())
        thread.join()


def test_a_link_local_address_is_not_posted_to(monkeypatch: pytest.MonkeyPatch) -> None:
    address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 0))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [address])
    with pytest.raises(AlertNotSent, match="link-local"):
        WebhookSink("https://metadata.example/x", run_url).send(example_alert())


@pytest.mark.parametrize(
    "url", ["https://hooks.example/x", "http://127.0.0.1:9/x", "http://localhost/x", "http://[::1]/x"]
)
def test_https_and_loopback_are_accepted(url: str) -> None:
    check_webhook_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example/s3cret",
        "ftp://x/s3cret",
        "s3cret",
        "https:///s3cret",
        "https://u:s3cret@host/x",
        "file:///s3cret",
    ],
)
def test_another_url_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(WebhookRefused) as raised:
        check_webhook_url(url)

    assert "s3cret" not in str(raised.value)
    assert "K2_ALERT_WEBHOOK" in str(raised.value)


def test_without_webhook_alerts_go_to_the_log(counted: Figures) -> None:
    made = AlertSinkResource().sink()
    made.send(example_alert())

    assert isinstance(made, LogSink)
    assert counted.counts().counters["k2_alerts_total", ("log", "sent")] == 1


def test_the_webhook_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_ALERT_WEBHOOK", "https://hooks.example/x")
    resource = AlertSinkResource(webhook=dg.EnvVar("K2_ALERT_WEBHOOK"), dagster_url="http://127.0.0.1:1/")

    with dg.build_resources({"alert_sink": resource}) as resources:
        made = resources.alert_sink.sink()

    assert isinstance(made, WebhookSink)
    assert made.url == "https://hooks.example/x"
    assert made.run_url("r") == "http://127.0.0.1:1/runs/r"
    assert "hooks" not in repr(made)
