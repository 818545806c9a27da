"""Represents the answer of a schema registry to a schema id: a schema, one with references, or none that K2 can read.

A schema that does stand for itself is handed on as its JSON reads, usually a dict.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ReferringSchema:
    """Describes a schema that names types of other schemas in the registry.

    Attributes:
        schema: As its JSON reads.
        references: The schemas with those types, likewise; each comes before those that refer to it.
    """

    schema: Any
    references: tuple[Any, ...]


@dataclass(frozen=True)
class UnusableSchema:
    """Describes something that the registry knows under an id, and that no message can be read with.

    Attributes:
        reason: Reads on from the words "schema id 7", as "is a JSON schema; Avro is expected".
    """

    reason: str


WriterSchema = Any
"""A schema as its JSON reads, a ``ReferringSchema``, or an ``UnusableSchema``."""
