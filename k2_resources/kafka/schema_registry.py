"""Asks and fills the schema registry, through Confluent's API (Apicurio in the local stack)."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import httpx2
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from k2_market.errors import K2Error
from k2_market.messages.schema_limits import MAX_CHARACTERS
from k2_market.messages.writer_schemas import ReferringSchema, UnusableSchema, WriterSchema
from k2_resources.metrics.event_counts import count_call
from k2_resources.runtime.retry_policy import RetryPolicy
from k2_resources.secret_redaction import SecretRedaction

COMPATIBILITY = "BACKWARD_TRANSITIVE"
"""Readers with the newest schema can read every message ever written under a subject."""

TIMEOUT_SECONDS = 5.0
"""For each of connecting, sending and reading; the client itself would wait for ever."""

MAX_UNKNOWN_IDS = 100
"""Ids which the registry does not know, that it is asked for in one call. Random bytes name an id a message."""

UNKNOWN_FOR_SECONDS = 10.0
"""Time for which an id unknown to the registry is not asked for again."""

MAX_REFERENCES = 100
"""Schemas that one schema may refer to, directly or by others."""

_LARGEST_SCHEMA_ID = 2**31 - 1
_SCHEMA_NOT_FOUND = 40403
_NOTHING_THERE = frozenset({40401, 40402, _SCHEMA_NOT_FOUND})
"""No such subject, no such version, no such schema."""
_TRANSIENT_STATUS = frozenset({408, 429, 500, 502, 503, 504})


class RegistryUnavailable(K2Error):
    """The schema registry can't be reached, or what answers there is not a schema registry."""


class SchemaUnavailable(RegistryUnavailable):
    """Says that the registry answers other questions and not the one for a schema id.

    Attributes:
        schema_id: The id. Messages that name it are what nothing can be done with.
    """

    def __init__(self, message: str, schema_id: int) -> None:
        super().__init__(message)
        self.schema_id = schema_id


class SchemaRefused(K2Error):
    """The registry does not accept a schema under a subject: incompatible with its earlier ones, or no schema."""


class SchemaRegistry:
    """A schema registry at a URL.

    Args:
        url: Of its Confluent-compatible API.
        timeout_seconds: For each of connecting, sending and reading.
        retry: How calls are tried again.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        url: str,
        timeout_seconds: float = TIMEOUT_SECONDS,
        retry: RetryPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url
        self._shown = SecretRedaction.of().text(url)
        self._clock = clock
        self._known: dict[int, WriterSchema] = {}
        self._unknown_since: dict[int, float] = {}
        self._retry = retry or RetryPolicy(is_transient, observe=count_call)
        # The client's own retries are off: it waits for seconds and says nothing.
        self._client = SchemaRegistryClient({"url": url, "timeout": timeout_seconds, "max.retries": 0})

    def register(self, subject: str, schema: dict[str, Any]) -> int:
        """Return the id of a schema under a subject, which is held to BACKWARD_TRANSITIVE from before its first schema.

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
        except _NO_ANSWER as error:
            raise self._unavailable(error) from error

    def writer_schemas(self, ids: Iterable[int]) -> dict[int, WriterSchema]:
        """Ask what the registry has under some ids; those that it does not know are absent.

        Small ids are asked for first, since registries count up from 1. After ``MAX_UNKNOWN_IDS`` that it does not
        know, others that it was never asked for are not asked for either: they are ``UnusableSchema``s that say so.

        Raises:
            RegistryUnavailable: Not reached, or not a registry; so absence always means that the registry said so.
            SchemaUnavailable: It has no answer for one of the ids, though it answers otherwise.
        """
        now = self._clock()
        self._unknown_since = {
            schema_id: since for schema_id, since in self._unknown_since.items() if now - since < UNKNOWN_FOR_SECONDS
        }
        unknown = 0
        for schema_id in sorted(set(ids) - self._known.keys() - self._unknown_since.keys()):
            if not 0 <= schema_id <= _LARGEST_SCHEMA_ID:
                continue
            if unknown == MAX_UNKNOWN_IDS:
                break
            found = self._writer_schema(schema_id)
            if found is None:
                unknown += 1
                self._unknown_since[schema_id] = now
            else:
                self._known[schema_id] = found
        return {
            schema_id: self._known.get(schema_id, _NOT_ASKED_FOR) for schema_id in set(ids) if self._tells(schema_id)
        }

    def _tells(self, schema_id: int) -> bool:
        """Tell whether an answer about an id is an answer at all; an unknown id is none."""
        return 0 <= schema_id <= _LARGEST_SCHEMA_ID and schema_id not in self._unknown_since

    def known_ids(self) -> frozenset[int]:
        """List the ids of all schemas that are registered under any subject.

        Raises:
            RegistryUnavailable: Not reached, or not a registry.
        """
        try:
            return frozenset(
                int(self._retry.call(self._client.get_version, subject, version).schema_id or 0)
                for subject in self._retry.call(self._client.get_subjects)
                for version in self._retry.call(self._client.get_versions, subject)
            )
        except (SchemaRegistryError, httpx2.HTTPError, ValueError) as error:
            raise self._unavailable(error) from error

    def _writer_schema(self, schema_id: int) -> WriterSchema | None:
        """Ask what the registry has under an id; None where it has nothing."""
        try:
            return self._usable(self._retry.call(self._client.get_schema, schema_id))
        except SchemaRegistryError as error:
            # A mere 404, without the registry's own code, comes from a wrong URL.
            if error.error_code == _SCHEMA_NOT_FOUND:
                return None
            raise self._without_schema(schema_id, error) from error
        except _NO_ANSWER as error:
            raise self._without_schema(schema_id, error) from error

    def _usable(self, answer: Schema) -> WriterSchema:
        """Make a schema of the registry's answer, with all that it refers to; or say why it can't be used."""
        references: dict[tuple[str, int], Any] = {}
        try:
            schema = _avro(answer)
            self._collect(answer.references or (), references, set())
        except _Unusable as reason:
            return UnusableSchema(str(reason))
        return ReferringSchema(schema, tuple(references.values())) if references else schema

    def _collect(
        self, wanted: Sequence[SchemaReference], found: dict[tuple[str, int], Any], under_way: set[tuple[str, int]]
    ) -> None:
        """Add the schemas that are referred to, each after those that it refers to itself."""
        for each in wanted:
            subject, version = str(each.subject), int(each.version or 0)
            if (subject, version) in found or (subject, version) in under_way:
                continue
            under_way.add((subject, version))
            if len(under_way) > MAX_REFERENCES:
                raise _Unusable(f"refers to more than {MAX_REFERENCES} schemas")
            try:
                referred = self._retry.call(self._client.get_version, subject, version, deleted=True).schema
            except SchemaRegistryError as error:
                if error.error_code in _NOTHING_THERE:
                    raise _Unusable(
                        f"refers to version {version} of subject {subject}, which the registry does not have"
                    ) from error
                raise
            schema = _avro(referred)
            self._collect(referred.references or (), found, under_way)
            found[subject, version] = schema

    def _without_schema(self, schema_id: int, error: Exception) -> RegistryUnavailable:
        """Make the error to raise where an id gets no answer: it is about the id, or about the registry."""
        try:
            self._client.get_compatibility()
        except (SchemaRegistryError, *_NO_ANSWER):
            return self._unavailable(error)
        return SchemaUnavailable(
            f"schema registry {self.url}: it answers, but has no answer for schema id {schema_id}: "
            f"{type(error).__name__}: {error}. Messages of that schema can't be read until it has",
            schema_id,
        )

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


class _Unusable(Exception):
    """Its text reads on from the words "schema id 7"."""


_NO_ANSWER = (httpx2.HTTPError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
"""Errors that the client raises where nothing answers, or no registry does."""

_NOT_ASKED_FOR = UnusableSchema(
    f"was not asked for: more than {MAX_UNKNOWN_IDS} other ids among the messages are unknown to the registry"
)
_SCHEMA_TYPES = {"JSON": "JSON", "PROTOBUF": "Protobuf"}


def _avro(answer: Schema) -> Any:
    """Read an Avro schema's JSON."""
    if answer.schema_type not in (None, "AVRO"):
        kind = _SCHEMA_TYPES.get(str(answer.schema_type), str(answer.schema_type))
        raise _Unusable(f"is a {kind} schema; Avro is expected")
    text = answer.schema_str
    if not isinstance(text, str):
        raise _Unusable("is empty in the registry")
    if len(text) > MAX_CHARACTERS:
        raise _Unusable(f"has {len(text):,} characters, at most {MAX_CHARACTERS:,}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _Unusable(f"is not JSON that can be read ({type(error).__name__})") from error


def is_transient(error: BaseException) -> bool:
    """Say whether a failure of the registry's client may be gone a moment later."""
    if isinstance(error, SchemaRegistryError):
        return error.http_status_code in _TRANSIENT_STATUS
    return isinstance(error, httpx2.TransportError)
