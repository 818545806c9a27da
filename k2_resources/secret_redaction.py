"""Keeps secrets out of log lines and alerts.

A secret is known by its key (``password``, ``token`` …), by its place in a text (credentials in a URL, the path
of a webhook, ``token=…``) or by its value, where the settings name it.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from pydantic import BaseModel, SecretStr

HIDDEN = "***"
MAX_TEXT = 8_192
"""Characters kept of one text; a symbol of 10 kB or a page of HTML in an error must not fill the disk."""
_MAX_DEPTH = 8
_SHORTEST_SECRET = 6
"""A known secret shorter than this is not looked for in texts: it would be found in ordinary words."""

_SECRET_WORD = (
    r"passw(?:or)?d|passphrase|secret|token|webhook|authorization|api[-_]?key|private[-_]?key|credential|cookie"
)
_SECRET_KEY = re.compile(_SECRET_WORD, re.IGNORECASE)
# Every repetition is bounded, so that a hostile text costs time in proportion to its length.
_URL_CREDENTIALS = re.compile(r"\b([a-z][a-z0-9+.-]{0,20}://)[^\s/?#'\"]{1,400}@", re.IGNORECASE)
_URL_USER = re.compile(r"[a-z][a-z0-9+.-]{0,20}://[^\s/?#@:]{0,400}:(?=[^@]{1,400}@)", re.IGNORECASE)
_WEBHOOK_URL = re.compile(
    r"\b(https?://)(?:(hooks\.[^\s/?#'\"]{1,250})/"
    r"|([^\s/?#'\"]{1,250})/(?:[^\s/'\"]{1,100}/){0,5}(?:services|webhooks?|hooks?)/)[^\s'\"]+",
    re.IGNORECASE,
)
_ASSIGNED = re.compile(
    rf"((?:{_SECRET_WORD})[\w.-]{{0,40}}['\"]?\s?[=:]\s?['\"]?)(?:(?:bearer|basic)\s)?[^\s'\",;&]+", re.IGNORECASE
)
_BEARER = re.compile(r"\b(bearer|basic)\s[A-Za-z0-9._~+/-]{8,}=*", re.IGNORECASE)


def secrets_of(settings: BaseModel) -> frozenset[str]:
    """Return the values of all secret settings, and the passwords in URLs among the others."""
    values = [getattr(settings, name) for name in type(settings).model_fields]
    secret = (value.get_secret_value() for value in values if isinstance(value, SecretStr))
    in_urls = (found for value in values if isinstance(value, str) for found in _passwords_of(value))
    return frozenset(secret) | {each for password in in_urls for each in (password, unquote(password))}


def _passwords_of(url: str) -> Iterator[str]:
    """Tell what may be a URL's password; its readers don't agree where one ends that has an ``@`` in it."""
    begin = _URL_USER.match(url)
    if begin is not None:
        rest = url[begin.end() :]
        yield from {rest.partition("@")[0], rest.rpartition("@")[0]} - {"", rest}


@dataclass(frozen=True)
class SecretRedaction:
    """Replaces secrets by ``***`` in texts and nested values.

    Attributes:
        known: Secrets to hide wherever they turn up, whatever stands around them.
    """

    known: tuple[str, ...] = ()

    @classmethod
    def of(cls, known: Iterable[str] = ()) -> "SecretRedaction":
        """Return the redaction that also hides known secrets, longest first, as one may be part of another."""
        long_enough = {secret for secret in known if len(secret) >= _SHORTEST_SECRET}
        return cls(tuple(sorted(long_enough, key=lambda secret: (-len(secret), secret))))

    def text(self, text: str) -> str:
        """Return the text without secrets, cut to ``MAX_TEXT`` characters."""
        for secret in self.known:
            text = text.replace(secret, HIDDEN)
        text = _URL_CREDENTIALS.sub(rf"\1{HIDDEN}@", text)
        text = _WEBHOOK_URL.sub(lambda found: f"{found[1]}{found[2] or found[3]}/{HIDDEN}", text)
        text = _ASSIGNED.sub(rf"\1{HIDDEN}", text)
        text = _BEARER.sub(rf"\1 {HIDDEN}", text)
        return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}… ({len(text) - MAX_TEXT} more characters)"

    def value(self, value: object, depth: int = 0) -> Any:
        """Return the value as plain JSON types without secrets; what JSON has no word for (NaN, a date) as text."""
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, str):
            return self.text(value)
        if depth < _MAX_DEPTH and isinstance(value, Mapping):
            return self.fields({str(key): each for key, each in value.items()}, depth + 1)
        if depth < _MAX_DEPTH and isinstance(value, list | tuple | set | frozenset):
            return [self.value(each, depth + 1) for each in value]
        return self.text(str(value))

    def fields(self, fields: Mapping[str, object], depth: int = 0) -> dict[str, Any]:
        """Return the mapping without secrets; the value under a secret's key is hidden whole, unless there is none."""
        return {
            self.text(key): HIDDEN if each is not None and _SECRET_KEY.search(key) else self.value(each, depth)
            for key, each in fields.items()
        }
