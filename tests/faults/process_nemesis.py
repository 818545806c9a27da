"""Kills processes of a local stack at random, and starts again what was killed, as an init system would."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psutil

from k2_cli.stack.local_stack import LocalStack
from k2_cli.stack.process_supervision import Service, ServiceError, ServiceState
from k2_resources.settings import Settings

RUN = "run"
"""The name of a victim that is a run's own process."""


@dataclass
class ProcessNemesis:
    """Kills one process after another with SIGKILL, ``least`` to ``most`` seconds apart.

    Attributes:
        stack: The stack whose services are killed.
        settings: Its settings; run processes are known by its home.
        choices: What the random choices come from.
        killed: The names of what was killed, in order.
    """

    stack: LocalStack
    settings: Settings
    choices: random.Random
    least_seconds: float = 2.0
    most_seconds: float = 10.0
    killed: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    _stop_killing: threading.Event = field(default_factory=threading.Event)
    _stop_keeping: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def keeping_alive(self) -> Iterator[None]:
        """Start again what ends, for as long as the block lasts; each service has a keeper of its own."""
        keepers = [threading.Thread(target=self._keep, args=[service]) for service in self.stack.services]
        for keeper in keepers:
            keeper.start()
        try:
            yield
        finally:
            self._stop_keeping.set()
            # What a keeper started ends with it: Linux tells a process of the end of the thread that made it.
            for keeper in keepers:
                keeper.join(timeout=300)

    def kill_for(self, seconds: float) -> None:
        """Kill at random for so long."""
        self._stop_killing.clear()
        timer = threading.Timer(seconds, self._stop_killing.set)
        timer.start()
        while not self._stop_killing.wait(self.choices.uniform(self.least_seconds, self.most_seconds)):
            self.kill_one()
        timer.cancel()

    def kill_one(self) -> None:
        """Kill one process: a service or, if there is one, the process of a run."""
        victims = self._victims()
        if victims:
            # A run lives for seconds, a service until it is killed: when there is a run, it is its turn more often.
            name = self.choices.choice([*sorted(victims), *([RUN, RUN] if RUN in victims else [])])
            with suppress(psutil.NoSuchProcess):
                self.choices.choice(victims[name]).kill()
                self.killed.append(name)

    def _victims(self) -> dict[str, list[psutil.Process]]:
        victims: dict[str, list[psutil.Process]] = {}
        for service, status in zip(self.stack.services, self.stack.status(), strict=True):
            if status.state is ServiceState.RUNNING and status.pid is not None:
                with suppress(psutil.NoSuchProcess):
                    victims[service.name] = [psutil.Process(status.pid)]
        runs = [process for process in psutil.process_iter() if self._is_run(process)]
        return {**victims, RUN: runs} if runs else victims

    def _is_run(self, process: psutil.Process) -> bool:
        try:
            # The code server makes a run's process by multiprocessing's spawn.
            is_spawned = any("--multiprocessing-fork" in each for each in process.cmdline())
            return is_spawned and process.environ().get("K2_HOME") == str(self.settings.home)
        except (psutil.Error, OSError):
            return False

    def _keep(self, service: Service) -> None:
        while not self._stop_keeping.wait(0.5):
            try:
                if self.stack.supervisor.status(service).state is not ServiceState.RUNNING:
                    self.stack.supervisor.start(service)
            except (ServiceError, psutil.Error, OSError) as error:
                self.trouble.append(f"{service.name}: {str(error)[:300]}")
