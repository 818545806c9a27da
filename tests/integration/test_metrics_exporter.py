"""The exporter as a process: what it serves, that it needs nobody to be up, and how it ends."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from forged_requests import EVIL, Forged, send
from prometheus_client.parser import text_string_to_metric_families

from k2_platform.metrics_exporter import ExporterPortTaken, exporter_server
from k2_resources.logs.structured_logging import LOG_FILE
from k2_resources.metrics.registry import METRICS
from k2_resources.settings import Settings


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_exporter(home: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "k2_platform.metrics_exporter"],
        env={**os.environ, "K2_HOME": str(home), "K2_METRICS_PORT": str(port), **environment},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                assert get(f"{url}/healthz") == "ok\n"
                break
            except urllib.error.URLError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                # Waits for the port to be listened on; a connection that is refused returns at once.
                process_wait(process, 0.05)
        yield process, url
    finally:
        process.kill()
        process.wait()


def process_wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        return str(response.read().decode())


def test_with_nothing_up_every_metric_is_declared_and_each_absent_part_is_said(tmp_path: Path) -> None:
    with running_exporter(tmp_path, K2_KAFKA_BOOTSTRAP="127.0.0.1:1") as (process, url):
        started = time.monotonic()
        text = get(f"{url}/metrics")
        assert time.monotonic() - started < 8  # Prometheus gives up after ten

        families = {family.name: family for family in text_string_to_metric_families(text)}
        assert {name.removesuffix("_total") for name in METRICS} <= set(families)
        up = {sample.labels["part"]: sample.value for sample in families["k2_exporter_part_up"].samples}
        assert up["kafka"] == 0
        assert up["runs"] == 0
        assert up["counted"] == 1
        labels = families["k2_exporter_part_up"].samples[0].labels
        assert (labels["service"], labels["environment"], labels["component"]) == ("k2", "local", "exporter")
        listening = [each.laddr.ip for each in psutil.Process(process.pid).net_connections("tcp") if not each.raddr]
        assert listening == ["127.0.0.1"]
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(f"{url}/")

        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    log = (tmp_path / "logs" / LOG_FILE).read_text()
    assert log.count("exporter started") == 1
    assert log.count("exporter stopped") == 1


def test_a_port_that_is_taken_is_said_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ExporterPortTaken, match=f"port {port}.*K2_METRICS_PORT"):
            exporter_server(Settings(home=tmp_path, metrics_port=port))


def test_no_page_of_another_site_reads_the_metrics_and_scrapers_do(tmp_path: Path) -> None:
    with running_exporter(tmp_path / "k2", K2_UI_HOSTS="exporter") as (_, url):
        port = urlsplit(url).port
        assert port is not None
        forged = [
            Forged("rebound name", "GET", "/metrics", {}, None, "evil.example:9464"),
            Forged("another origin", "GET", "/metrics", {"Origin": EVIL}),
            Forged("image", "GET", "/metrics", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}),
            Forged("no host", "GET", "/metrics", {}, None, "[nonsense"),
            Forged("sent", "POST", "/metrics", {"Content-Type": "application/json"}, "{}"),
        ]
        answers = [send(port, each) for each in forged]
        assert [each.status for each in answers] == [421, 403, 403, 400, 405]
        assert not any(b"k2_" in each.body for each in answers)
        for host in (None, "localhost", "exporter:9464"):
            answer = send(port, Forged("scraper", "GET", "/metrics", {}, None, host))
            assert answer.status == 200
            assert b"k2_exporter_part_up" in answer.body
