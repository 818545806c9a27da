"""Retries calls to clients: exponential backoff, on transient failures alone (#006)."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import ParamSpec, TypeVar

import tenacity

from k2_resources.logs.structured_logging import get_logger
from k2_resources.metrics.event_counts import count_call

RETRIES = 3
FIRST_DELAY_SECONDS = 0.1
DELAY_FACTOR = 2
LONGEST_DELAY_SECONDS = 10.0

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Outcome(StrEnum):
    """Describes how a call under a retry policy ended."""

    FIRST_TIME = "first_time"
    AFTER_RETRIES = "after_retries"
    PERMANENT_FAILURE = "permanent_failure"
    RETRIES_USED_UP = "retries_used_up"


@dataclass(frozen=True)
class RetryPolicy:
    """Calls a function up to ``1 + retries`` times, for as long as its failures are transient.

    Where a failure can leave the outcome unknown (an Iceberg commit), the function must settle that itself before it
    acts again; a policy only repeats.

    Attributes:
        is_transient: Whether trying again could help; any other failure is raised at once.
        retries: Calls after the first.
        first_delay_seconds: Wait before the first retry; each further wait is ``delay_factor`` times as long.
        delay_factor: Growth of the wait.
        longest_delay_seconds: What the wait does not grow beyond.
        observe: Told the function's name and how its call ended, once a call; for metrics.
        sleep: Waits some seconds; a test puts its own clock here.
    """

    is_transient: Callable[[BaseException], bool]
    retries: int = RETRIES
    first_delay_seconds: float = FIRST_DELAY_SECONDS
    delay_factor: float = DELAY_FACTOR
    longest_delay_seconds: float = LONGEST_DELAY_SECONDS
    observe: Callable[[str, Outcome], None] = count_call
    sleep: Callable[[float], None] = time.sleep

    def call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Tell what the function returns, or its last failure; each retry and the final failure are logged."""
        name = getattr(function, "__qualname__", repr(function))
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(self.is_transient),
            stop=tenacity.stop_after_attempt(1 + self.retries),
            wait=tenacity.wait_exponential(
                multiplier=self.first_delay_seconds, exp_base=self.delay_factor, max=self.longest_delay_seconds
            ),
            sleep=self.sleep,
            before_sleep=lambda state: self._log_retry(name, state),
            reraise=True,
        )
        try:
            result = retrying(function, *args, **kwargs)
        except Exception as error:
            self._report_failure(name, error, attempts=int(retrying.statistics["attempt_number"]))
            raise
        attempts = int(retrying.statistics["attempt_number"])
        self.observe(name, Outcome.FIRST_TIME if attempts == 1 else Outcome.AFTER_RETRIES)
        return result

    def _log_retry(self, name: str, state: tenacity.RetryCallState) -> None:
        assert state.outcome is not None
        assert state.next_action is not None
        get_logger("retry").warning(
            f"Attempt {state.attempt_number}/{1 + self.retries} failed, retrying",
            function=name,
            error=_described(state.outcome.exception()),
            delay_seconds=state.next_action.sleep,
        )

    def _report_failure(self, name: str, error: Exception, attempts: int) -> None:
        if not self.is_transient(error):
            self.observe(name, Outcome.PERMANENT_FAILURE)
            return
        self.observe(name, Outcome.RETRIES_USED_UP)
        get_logger("retry").error(f"All {attempts} attempts failed", function=name, error=_described(error))


def _described(error: BaseException | None) -> str:
    return f"{type(error).__name__}: {error}"
