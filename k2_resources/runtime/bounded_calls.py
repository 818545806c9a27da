"""Asks the services that ingestion depends on, each with a deadline, without piling up calls that hang."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Thread
from typing import TypeVar

from k2_market.alerting.alarm_facts import NoAnswer

MOST_HANGING = 3
"""Calls of one service that may hang at once before it is no longer asked. Each ends when the network lets it."""

_MAX_REASON = 500

_T = TypeVar("_T")


@dataclass
class BoundedClient:
    """Puts questions to one service.

    Attributes:
        name: The service's name, for errors.
        seconds: When to give up what has not been answered.
    """

    name: str
    seconds: float
    _hanging: list[Thread] = field(default_factory=list)

    def ask(self, questions: Mapping[str, Callable[[], _T]]) -> Callable[[], dict[str, _T | NoAnswer]]:
        """Put questions one after the other, while the caller goes on.

        Args:
            questions: What to ask, by name. A call that hangs is left behind to its own end: some clients wait for as
                long as the network lets them.

        Returns:
            Waits and gives each question's answer, in their order; an error is no answer.
        """
        self._hanging = [thread for thread in self._hanging if thread.is_alive()]
        if len(self._hanging) >= MOST_HANGING:
            silent = NoAnswer(f"{len(self._hanging)} earlier calls to {self.name} still hang")
            return lambda: dict.fromkeys(questions, silent)
        until = time.monotonic() + self.seconds
        found: dict[str, _T | NoAnswer] = {}

        def ask_all() -> None:
            for name, question in questions.items():
                if time.monotonic() < until:
                    found[name] = _answer(question)

        thread = Thread(target=ask_all, daemon=True)
        thread.start()
        self._hanging.append(thread)

        def answers() -> dict[str, _T | NoAnswer]:
            thread.join(max(0.0, until - time.monotonic()))
            return {name: found.get(name, NoAnswer(f"none within {self.seconds:.0f} s")) for name in questions}

        return answers


def _answer(question: Callable[[], _T]) -> _T | NoAnswer:
    try:
        return question()
    except Exception as error:  # whatever it is, a person is told of it
        return NoAnswer(f"{type(error).__name__}: {error}"[:_MAX_REASON])
