"""Sets up structured logging (#008): one JSON object a line, with a correlation id.

Every line has ``timestamp`` (UTC), ``level``, ``component``, ``message`` and ``correlation_id`` (null outside
``correlation``), then what was bound or passed. Libraries that use ``logging`` go through the same chain.
Lines go to stderr, as JSON or, on a developer's terminal, in colour, and always as JSON to ``k2.jsonl``.
"""

import contextvars
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from typing import ParamSpec, TypeVar, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from k2_resources.logs.log_file import SharedLogFile
from k2_resources.logs.repeated_messages import RepeatedMessages
from k2_resources.secret_redaction import SecretRedaction, secrets_of
from k2_resources.settings import Settings

LOG_FILE = "k2.jsonl"
"""Name of the shared log file in ``settings.log_directory``."""

_ROOT = "k2"
_FIRST_KEYS = ("timestamp", "level", "component", "message", "correlation_id")
_P = ParamSpec("_P")
_R = TypeVar("_R")

# Until logging is configured our lines go nowhere, not to logging's last resort, which knows no redaction.
logging.getLogger(_ROOT).addHandler(logging.NullHandler())


def configure_logging(component: str, settings: Settings) -> None:
    """Send this process's log lines to stderr and to the shared file; calling it again replaces the settings.

    stderr gets INFO and above, the file DEBUG; other people's loggers give WARNING and above, Dagster's INFO.

    Args:
        component: What this process is; the component of lines that come from libraries.
        settings: ``log_directory``, ``log_format``, ``environment``; its secrets are hidden wherever they turn up.
    """
    redaction = SecretRedaction.of(secrets_of(settings))
    stderr = _OwnStderr()
    stderr.setLevel(logging.INFO)
    stderr.addFilter(_not_shown_already)
    stderr.setFormatter(_formatter(component, redaction, _renderers(settings)))
    file = SharedLogFile(settings.log_directory / LOG_FILE, settings.log_megabytes * 1_000_000, settings.log_files)
    file.setFormatter(_formatter(component, redaction, [_json]))

    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, _OwnStderr | SharedLogFile)]:
        root.removeHandler(handler)
        handler.close()
    root.addHandler(stderr)
    root.addHandler(file)
    root.setLevel(logging.WARNING)
    logging.getLogger(_ROOT).setLevel(logging.DEBUG)
    logging.getLogger("dagster").setLevel(logging.INFO)


def get_logger(component: str) -> structlog.stdlib.BoundLogger:
    """Return a logger whose lines carry a component; usable at import time, before logging is configured."""
    logger = structlog.wrap_logger(
        logging.getLogger(f"{_ROOT}.{component}"),
        processors=_CHAIN,
        wrapper_class=structlog.stdlib.BoundLogger,
        component=component,
    )
    return cast(structlog.stdlib.BoundLogger, logger)


@contextmanager
def correlation(correlation_id: str) -> Iterator[None]:
    """Give every line written inside, by this thread or task and those it passes its context to, an id."""
    with structlog.contextvars.bound_contextvars(correlation_id=correlation_id):
        yield


def current_correlation_id() -> str | None:
    """Return the id that lines written here carry, if any; what a producer puts into the message's header."""
    found = structlog.contextvars.get_contextvars().get("correlation_id")
    return None if found is None else str(found)


def carrying_context(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Return the function, to be called in other threads with the correlation id of here and now.

    A new thread starts without context (asyncio tasks inherit it by themselves); may be called many times at once.
    """
    context = contextvars.copy_context()

    @wraps(function)
    def carried(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        return context.copy().run(function, *args, **kwargs)

    return carried


@dataclass
class Timing:
    """Describes how long a timed operation took; 0 until it has ended."""

    seconds: float = 0.0


@contextmanager
def timed(logger: structlog.stdlib.BoundLogger, operation: str, **fields: object) -> Iterator[Timing]:
    """Log an operation's start (debug) and end with ``duration_ms``, or its failure, which passes on.

    Yields:
        A ``Timing`` that holds the seconds once the block is left.
    """
    bound = logger.bind(operation=operation, **fields)
    bound.debug(f"{operation} started")
    timing = Timing()
    started = time.perf_counter()
    try:
        yield timing
    except BaseException as error:
        timing.seconds = time.perf_counter() - started
        reason = f"{type(error).__name__}: {error}"
        bound.warning(f"{operation} failed", duration_ms=_milliseconds(timing), error=reason)
        raise
    timing.seconds = time.perf_counter() - started
    bound.info(f"{operation} completed", duration_ms=_milliseconds(timing))


def kafka_client_logger(name: str) -> logging.Logger:
    """Return the logger to hand to a Kafka client as ``logger``: a message that repeats passes once in ten seconds.

    The line that passes next carries how many were held back, as ``suppressed``.
    """
    logger = logging.getLogger(f"{_ROOT}.kafka.{name}")
    if not any(isinstance(each, RepeatedMessages) for each in logger.filters):
        logger.addFilter(RepeatedMessages())
    return logger


def kafka_error_callback(logger: logging.Logger) -> Callable[[object], None]:
    """Return the ``error_cb`` of a Kafka client: its errors become warnings of the (rate-limited) logger.

    They are warnings since librdkafka goes on trying; what fails for good raises from the call that needed it.
    """

    def warn(error: object) -> None:
        logger.warning("Kafka client: %s", error)

    return warn


def _milliseconds(timing: Timing) -> float:
    return round(timing.seconds * 1_000, 3)


class _OwnStderr(logging.Handler):
    """Writes to whatever ``sys.stderr`` is at the time; its type tells our handler from others."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:
            # As logging's own handlers do: a line that can't be shown must not break who logged it.
            self.handleError(record)


def _not_shown_already(record: logging.LogRecord) -> bool:
    """Say whether no logger on the record's way shows it by a handler of its own (Dagster's processes do)."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None and logger.parent is not None:
        if any(isinstance(each, logging.StreamHandler) for each in logger.handlers):
            return False
        logger = logger.parent
    return True


def _renderers(settings: Settings) -> list[Processor]:
    local_terminal = settings.environment == "local" and sys.stderr.isatty()
    if settings.log_format == "console" or (settings.log_format is None and local_terminal):
        # Plain tracebacks: the default shows local variables, and with them secrets.
        console = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            exception_formatter=structlog.dev.plain_traceback,
            event_key="message",
            sort_keys=False,
        )
        return [_for_a_terminal, console]
    return [_json]


def _formatter(component: str, redaction: SecretRedaction, renderers: list[Processor]) -> logging.Formatter:
    def from_library(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        record: logging.LogRecord = event["_record"]
        event["timestamp"] = _iso(datetime.fromtimestamp(record.created, UTC))
        return {"level": record.levelname, "component": component, "logger": record.name, **event}

    def without_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        return redaction.fields(event)

    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.ExtraAdder(allow={"suppressed"}),
            from_library,
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            without_secrets,
            _first_keys_first,
            *renderers,
        ],
    )


def _timestamp(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event["timestamp"] = _iso(datetime.now(UTC))
    return event


def _level(_: WrappedLogger, method: str, event: EventDict) -> EventDict:
    event["level"] = "ERROR" if method == "exception" else method.upper()
    return event


def _first_keys_first(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event.setdefault("correlation_id", None)
    return {**{key: event.pop(key, None) for key in _FIRST_KEYS}, **event}


def _for_a_terminal(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Return the level as the renderer's colours know it, and no escape sequence of a symbol."""
    event["level"] = event["level"].lower()
    shown = {key: _printable(value) if isinstance(value, str) else value for key, value in event.items()}
    return {key: value for key, value in shown.items() if key != "correlation_id" or value is not None}


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() or each in "\n\t" else repr(each)[1:-1] for each in text)


def _iso(instant: datetime) -> str:
    return instant.isoformat(timespec="microseconds").replace("+00:00", "Z")


_json = structlog.processors.JSONRenderer()

_CHAIN: list[Processor] = [
    structlog.stdlib.filter_by_level,
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.PositionalArgumentsFormatter(),
    _timestamp,
    _level,
    structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
]
