"""Probes whether a server on loopback is up: one quick request to each kind of server.

``python -m k2_cli.stack.health_probes URL`` ends with 0 where a guarded server answers.
"""

import http.client
import json
import urllib.error
import urllib.request
from typing import Any

from k2_market.browser_requests import NOBODYS_HOST

_TIMEOUT_SECONDS = 2.0
# Loopback is never reached through a proxy, whatever the environment says.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


def http_answers(url: str) -> bool:
    """Say whether a GET is answered with success."""
    return _ask(urllib.request.Request(url)) is not None


def refuses_other_hosts(url: str) -> bool:
    """Say whether a GET under a name that is not the server's is refused as misdirected (421), as a guard does."""
    try:
        with _open(urllib.request.Request(url, headers={"Host": NOBODYS_HOST}), timeout=_TIMEOUT_SECONDS):
            return False
    except urllib.error.HTTPError as error:
        return error.code == http.HTTPStatus.MISDIRECTED_REQUEST
    except (OSError, http.client.HTTPException):
        return False


def graphql(url: str, query: str) -> dict[str, Any] | None:
    """Return the ``data`` of a GraphQL query's answer; ``None`` while there is no good one."""
    body = json.dumps({"query": query}).encode()
    answer = _ask(urllib.request.Request(url, body, {"Content-Type": "application/json"}))
    if answer is None:
        return None
    try:
        data: dict[str, Any] | None = json.loads(answer).get("data")
    except ValueError:
        return None
    return data


def kafka_answers(bootstrap_servers: str) -> bool:
    """Say whether a broker gives its cluster's metadata."""
    import logging

    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    # librdkafka reports a broker that is not there yet on stderr, many times a second, unless given a logger.
    unheard = logging.Logger("k2.health_probe", logging.CRITICAL)
    client = AdminClient({"bootstrap.servers": bootstrap_servers}, logger=unheard)
    try:
        return bool(client.list_topics(timeout=_TIMEOUT_SECONDS).brokers)
    except KafkaException:
        return False


def code_server_serves(port: int) -> bool:
    """Say whether a Dagster code server has loaded its definitions and serves them."""
    import grpc  # type: ignore[import-untyped]
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        request = health_pb2.HealthCheckRequest(service="DagsterApi")
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=_TIMEOUT_SECONDS)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _ask(request: urllib.request.Request) -> bytes | None:
    try:
        with _open(request, timeout=_TIMEOUT_SECONDS) as response:
            content: bytes = response.read()
            return content
    except (OSError, http.client.HTTPException):
        return None


if __name__ == "__main__":
    import sys

    # For containers: whether a server answers, and no other name than its own.
    sys.exit(0 if all(http_answers(url) and refuses_other_hosts(url) for url in sys.argv[1:]) else 1)
