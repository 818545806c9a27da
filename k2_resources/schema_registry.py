"""The door to the schema registry, any that speaks Confluent's API (Apicurio in the local stack)."""

import json
from collections.abc import Iterable
from typing import Any

import dagster as dg
import httpx2
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from k2_market.errors import K2Error
from k2_resources.event_counts import count_call
from k2_resources.retry_policy import RetryPolicy
from k2_resources.secret_redaction import SecretRedaction

COMPATIBILITY = "BACKWARD_TRANSITIVE"
"""Readers with the newest schema can read every message ever written under a subject."""

TIMEOUT_SECONDS = 5.0
"""For each of connecting, sending and reading; the client itself would wait for ever."""

_LARGEST_SCHEMA_ID = 2**31 - 1
_SCHEMA_NOT_FOUND = 40403
_TRANSIENT_STATUS = frozenset({408, 429, 500, 502, 503, 504})


class RegistryUnavailable(K2Error):
    """The schema registry can't be reached, or what answers there is not a schema registry."""


class SchemaRefused(K2Error):
    """The registry does not accept a schema under a subject: incompatible with its earlier ones, or no schema."""


class SchemaRegistry:
    """A schema registry at a URL."""

    def __init__(self, url: str, timeout_seconds: float = TIMEOUT_SECONDS, retry: RetryPolicy | None = None) -> None:
        self.url = url
        self._shown = SecretRedaction.of().text(url)
        self._retry = retry or RetryPolicy(is_transient, observe=count_call)
        # The client's own retries are off: it waits for seconds and says nothing.
        self._client = SchemaRegistryClient({"url": url, "timeout": timeout_seconds, "max.retries": 0})

    def register(self, subject: str, schema: dict[str, Any]) -> int:
        """The id of a schema under a subject, which is held to BACKWARD_TRANSITIVE from before its first schema.

        Raises:
            SchemaRefused: Messages written with the subject's earlier schemas could not be read with this one, or it
                is not an Avro schema.
            RegistryUnavailable: Not reached, or not a registry.
        """
        text = json.dumps(schema, separators=(",", ":"))
        try:
            self._retry.call(self._client.set_compatibility, subject, COMPATIBILITY)
            return int(self._retry.call(self._client.register_schema, subject, Schema(text, "AVRO")))
        except SchemaRegistryError as error:
            if error.http_status_code in (409, 422):
                raise self._refused(subject, schema, error) from error
            raise self._unavailable(error) from error
        except (httpx2.HTTPError, ValueError) as error:
            raise self._unavailable(error) from error

    def writer_schemas(self, ids: Iterable[int]) -> dict[int, dict[str, Any]]:
        """The Avro schemas that the registry knows under some ids; ids that name none are absent.

        Raises:
            RegistryUnavailable: Not reached, or not a registry; so absence always means that the registry said so.
        """
        found = {schema_id: self._writer_schema(schema_id) for schema_id in set(ids)}
        return {schema_id: schema for schema_id, schema in found.items() if schema is not None}

    def _writer_schema(self, schema_id: int) -> dict[str, Any] | None:
        if not 0 <= schema_id <= _LARGEST_SCHEMA_ID:
            return None
        try:
            schema = self._retry.call(self._client.get_schema, schema_id)
        except SchemaRegistryError as error:
            # A mere 404, without the registry's own code, comes from a wrong URL.
            if error.error_code == _SCHEMA_NOT_FOUND:
                return None
            raise self._unavailable(error) from error
        except (httpx2.HTTPError, ValueError) as error:
            raise self._unavailable(error) from error
        if schema.schema_type not in (None, "AVRO") or schema.schema_str is None:
            return None
        parsed = json.loads(schema.schema_str)
        return parsed if isinstance(parsed, dict) else None

    def _refused(self, subject: str, schema: dict[str, Any], error: SchemaRegistryError) -> SchemaRefused:
        reason = str(error.error_message).rstrip(".")
        return SchemaRefused(
            f"schema registry {self._shown}, subject {subject}: schema {schema.get('name')!r} is refused under "
            f"{COMPATIBILITY}: {reason}. Give new fields a default and leave the others as they are, or write to "
            "another topic."
        )

    def _unavailable(self, error: Exception) -> RegistryUnavailable:
        reason = SecretRedaction.of().text(f"{type(error).__name__}: {error}")
        return RegistryUnavailable(
            f"schema registry {self._shown}: {reason}. Is it running (`k2 status`), and is K2_REGISTRY_URL its "
            "Confluent-compatible API?"
        )


class SchemaRegistryResource(dg.ConfigurableResource[SchemaRegistry]):
    """Hands out the schema registry at ``url``."""

    url: str

    def registry(self) -> SchemaRegistry:
        """A new client of the registry."""
        return SchemaRegistry(self.url)


def is_transient(error: BaseException) -> bool:
    """Whether a failure of the registry's client may be gone a moment later."""
    if isinstance(error, SchemaRegistryError):
        return error.http_status_code in _TRANSIENT_STATUS
    return isinstance(error, httpx2.TransportError)
