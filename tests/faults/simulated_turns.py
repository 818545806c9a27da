"""Processes that take turns: threads of which one runs at a time, until its next step, chosen by who holds the seed.

A step is what a real process does to the outside: a poll, a table loaded, a file written, a compare-and-swap. Between
two steps nothing is shared, so every interleaving that real processes can have is an order of turns.
"""

import threading
import time
from collections.abc import Callable
from random import Random


class Killed(BaseException):
    """The process ends here. No handler undoes anything: whatever it tries to do to the outside ends it again."""


class Process:
    """A simulated process.

    Attributes:
        name: Its name in the story.
        next_step: What it does when it has its next turn.
        wakes: When it can have its next turn, in simulated seconds.
        paused: Whether it is stopped, as by SIGSTOP.
        alive: Whether it has more turns to take.
        error: What it ended with, unless it was killed or came to its end.
    """

    def __init__(self, name: str, work: Callable[[], None], came_back: threading.Lock) -> None:
        self.name = name
        self.next_step = "starts"
        self.wakes = 0.0
        self.paused = False
        self.alive = True
        self.killed = False
        self.error: BaseException | None = None
        self.may_go = threading.Lock()
        self.may_go.acquire()
        self._work = work
        self._came_back = came_back
        self.thread = threading.Thread(target=self._live, name=name, daemon=True)
        self.thread.start()

    def _live(self) -> None:
        self.may_go.acquire()
        try:
            if not self.killed:
                self._work()
        except Killed:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.alive = False
            self._came_back.release()


class Turns:
    """Gives turns to processes, keeps the time, and tells the story.

    Outside a process (setting the scene, checking what came of it) steps pass unnoticed.

    Attributes:
        random: Where all choices come from.
        now: Simulated seconds since the start.
        story: What was done, in order.
        processes: All that were started.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        self.now = 0.0
        self.story: list[str] = []
        self.processes: list[Process] = []
        self._current: Process | None = None
        self._came_back = threading.Lock()
        self._came_back.acquire()

    def start(self, name: str, work: Callable[[], None]) -> Process:
        """A process that waits for its first turn."""
        process = Process(name, work, self._came_back)
        self.processes.append(process)
        self.tell(name, "starts")
        return process

    def give(self, process: Process) -> None:
        """Let a process do its next step and go on to the one after.

        Raises:
            BaseException: What the process ended with.
        """
        self._current = process
        process.may_go.release()
        self._came_back.acquire()
        self._current = None
        if process.error is not None:
            raise process.error

    def kill(self, process: Process) -> None:
        """End a process where it stands, as SIGKILL would."""
        if process.alive:
            process.killed = True
            self.tell(process.name, f"is killed before it {process.next_step}")
            self.give(process)

    def give_until(self, process: Process, step: str) -> None:
        """Let a process go on until it is about to do a step, or has ended."""
        while process.alive and process.next_step != step:
            self.give(process)

    def finish(self, process: Process) -> None:
        """Let a process go on to its end; time passes as it needs."""
        while process.alive:
            self.now = max(self.now, process.wakes)
            self.give(process)

    def ready(self) -> list[Process]:
        """Processes that can have a turn now."""
        return [each for each in self.processes if each.alive and not each.paused and each.wakes <= self.now]

    def pass_time(self) -> bool:
        """Let time pass until a process wakes; whether there is one."""
        asleep = [each.wakes for each in self.processes if each.alive and not each.paused and each.wakes > self.now]
        if asleep:
            self.now = min(asleep)
        return bool(asleep)

    def step(self, what: str, *, seconds: float = 0.0) -> None:
        """Wait for the next turn, to do ``what`` in it; not before some seconds have passed."""
        process = self._current
        if process is None:
            self.now += seconds
            return
        if process.killed:
            raise Killed
        process.next_step = what
        process.wakes = self.now + seconds
        self._came_back.release()
        process.may_go.acquire()
        if process.killed:
            raise Killed
        self.tell(process.name, what)

    def die(self, why: str) -> None:
        """End the process whose turn it is, as a fault in a library's own code would."""
        assert self._current is not None
        self.tell(self._current.name, f"is killed by {why}")
        raise Killed

    def sleep(self, seconds: float) -> None:
        """Sleep, in simulated time."""
        self.step(f"wakes after {seconds:.1f} s", seconds=seconds)

    def tell(self, who: str, what: str) -> None:
        """Add a line to the story."""
        self.story.append(f"{self.now:9.2f} {who:12} {what}")

    def end(self) -> None:
        """End all processes that are left, silently."""
        for process in self.processes:
            if process.alive:
                process.killed = True
                self.give(process)


class SimulatedTime:
    """Stands in for the module ``time`` where real code asks for it."""

    def __init__(self, turns: Turns, epoch: float) -> None:
        self._turns = turns
        self._epoch = epoch
        self.sleep = turns.sleep
        self.perf_counter = time.perf_counter

    def monotonic(self) -> float:
        return self._turns.now

    def time(self) -> float:
        return self._epoch + self._turns.now
