"""Ingestion beside its peers: the same topic through K2, Iceberg's Kafka Connect sink, and one message at a time.

``make bench-ingest``: a broker and a registry of its own, a topic of 4,000,000 messages for each of three shapes, and
each way in turns, so that what else the machine does falls on all alike. The limit is the Kafka client alone, its
messages let go as they come.

Every figure is told of the table itself: a commit is when its rows became visible. The steady rate is the rows after
the first commit over the time from there to the last. CPU-seconds count whole processes, start-up and all, but not the
making of an empty home, which is done once for all runs.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks.bench_stack import BenchStack, bench_stack
from benchmarks.connect_sink.sink_process import ICEBERG_VERSIONS, SinkUnavailable, java, libraries, run_sink
from benchmarks.ingest_paths import bench_feed, commits_of, consume_alone, k2_quotes, k2_run, one_at_a_time, plans
from benchmarks.ingest_topics import Shape, filled
from benchmarks.measured_process import Measured, measure
from benchmarks.results_file import write_results
from k2_platform.catch_up import local_instance
from k2_resources.settings import Settings

ONE_AT_A_TIME_MESSAGES = 100_000
K2, K2_TWICE, PLAIN, LIMIT = "k2, one run", "k2, two runs at once", "one message at a time", "consume alone"


@dataclass(frozen=True)
class Ingested:
    """What a way took once.

    Attributes:
        messages: How many it took.
        steady_per_second: Messages a second after the first commit.
        cpu_seconds_per_million: Whole processes.
        peak_rss_bytes: Of the largest process.
        first_visible_seconds: From the start of the process to its first commit.
        wall_seconds: From the start of the first process to the last commit.
    """

    messages: int
    steady_per_second: float
    cpu_seconds_per_million: float
    peak_rss_bytes: int
    first_visible_seconds: float
    wall_seconds: float


Way = Callable[[], Ingested]


@dataclass(frozen=True)
class Ways:
    """The ways that messages of one topic can go."""

    stack: BenchStack
    topic: str
    shape: Shape
    messages: int
    directory: Path

    def k2_one_run(self) -> Ingested:
        """K2's runs, one after the other, each in a process of its own as the launcher starts it."""
        home = self._ready_home()
        return _of_runs([self._k2(home, plan) for plan in plans(self.stack.bootstrap_servers, self.topic)])

    def k2_two_runs(self) -> Ingested:
        """The same in two runs at once, each of half of the messages."""
        home = self._ready_home()
        halves = plans(self.stack.bootstrap_servers, self.topic, self.messages // 2)
        with ThreadPoolExecutor(2) as pool:
            runs = list(pool.map(lambda plan: self._k2(home, plan), halves))
        return _of_runs_at_once(runs)

    def consume_alone(self) -> Ingested:
        """The limit."""
        started = time.time()
        found = measure(
            consume_alone, bootstrap_servers=self.stack.bootstrap_servers, topic=self.topic, messages=self.messages
        )
        return _of_commits(found.answer["commits"], started, found.cpu_seconds, found.peak_rss_bytes, self.messages)

    def one_at_a_time(self) -> Ingested:
        """The plain Python way, with a part of the messages: its rate does not grow with their number."""
        count, started = min(ONE_AT_A_TIME_MESSAGES, self.messages), time.time()
        found = measure(
            one_at_a_time,
            home=str(self._home()),
            bootstrap_servers=self.stack.bootstrap_servers,
            registry_url=self.stack.registry_url,
            topic=self.topic,
            kind=self.shape.kind.name,
            messages=count,
        )
        return _of_commits(found.answer["commits"], started, found.cpu_seconds, found.peak_rss_bytes, count)

    def sink(self, version: str) -> Ingested:
        """Iceberg's Kafka Connect sink."""
        archives = libraries(version, Settings.load().home / "bench")
        found = run_sink(self.stack, self.topic, self.messages, archives, self._home(f"sink-{version}"))
        return _of_commits(found.commits, found.started, found.cpu_seconds, found.peak_rss_bytes, self.messages)

    def _k2(self, home: Path, plan: dict[str, object]) -> "Run":
        function = k2_quotes if self.shape is Shape.QUOTE else k2_run
        started = time.time()
        found = measure(
            function,
            home=str(home),
            bootstrap_servers=self.stack.bootstrap_servers,
            registry_url=self.stack.registry_url,
            topic=self.topic,
            plan=plan,
        )
        return Run(started, found, commits_of(str(home), self._table, found.answer["run_id"]))

    @property
    def _table(self) -> str:
        return f"{bench_feed(self.topic).name}.{self.shape.kind.raw_table}"

    def _ready_home(self) -> Path:
        """An empty home of K2's whose Dagster storage was made, as ``k2 up`` makes it once before any run."""
        home = self._home()
        with local_instance(Settings(home=home)):
            return home

    def _home(self, name: str = "home") -> Path:
        """An empty directory; what lay there is gone, so that the disk does not fill."""
        home = self.directory / f"{name}-{time.time_ns()}"
        for old in self.directory.glob(f"{name}-*"):
            shutil.rmtree(old)
        home.mkdir(parents=True)
        return home


@dataclass(frozen=True)
class Run:
    """A run of K2's: when its process started (seconds since 1970), what it took, its commits and their rows."""

    started: float
    measured: Measured
    commits: list[list[float]]


def _of_runs(runs: Sequence[Run]) -> Ingested:
    rows = sum(int(count) for run in runs for _, count in run.commits)
    steady_rows = sum(count for run in runs for _, count in run.commits[1:])
    steady_seconds = sum(run.commits[-1][0] - run.commits[0][0] for run in runs)
    return Ingested(
        messages=rows,
        steady_per_second=steady_rows / steady_seconds if steady_seconds else rows / _seconds(runs),
        cpu_seconds_per_million=sum(run.measured.process_cpu_seconds for run in runs) / rows * 1e6,
        peak_rss_bytes=max(run.measured.peak_rss_bytes for run in runs),
        first_visible_seconds=median(run.commits[0][0] - run.started for run in runs),
        wall_seconds=sum(run.commits[-1][0] - run.started for run in runs),
    )


def _of_runs_at_once(runs: Sequence[Run]) -> Ingested:
    """The steady rate is that of the time in which all of them commit: none is still starting, none has ended."""
    together = _of_runs(runs)
    started, ended = max(run.commits[0][0] for run in runs), min(run.commits[-1][0] for run in runs)
    if len(runs) == 1 or started >= ended:  # too few messages
        return together
    rows = sum(count for run in runs for made, count in run.commits if started < made <= ended)
    return Ingested(
        **{**asdict(together), "steady_per_second": rows / (ended - started), "wall_seconds": _seconds(runs)}
    )


def _seconds(runs: Sequence[Run]) -> float:
    return max(run.commits[-1][0] for run in runs) - min(run.started for run in runs)


def _of_commits(commits: list[list[float]], started: float, cpu: float, rss: int, messages: int) -> Ingested:
    (first, rows), (last, _) = commits[0], commits[-1]
    seconds = last - first
    return Ingested(
        messages=messages,
        steady_per_second=(messages - rows) / seconds if seconds else messages / (last - started),
        cpu_seconds_per_million=cpu / messages * 1e6,
        peak_rss_bytes=rss,
        first_visible_seconds=first - started,
        wall_seconds=last - started,
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--messages", type=int, default=4_000_000)
    arguments.add_argument("--partitions", type=int, default=8)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--shapes", nargs="*", type=Shape, default=list(Shape), choices=list(Shape))
    arguments.add_argument(
        "--sinks", nargs="*", default=list(ICEBERG_VERSIONS), help="Iceberg's versions; none: no sink"
    )
    arguments.add_argument("--keep", type=Path, help="a directory whose topics are kept, or taken if they are there")
    chosen = arguments.parse_args()
    directory = chosen.keep or Path(tempfile.mkdtemp(prefix="k2-bench-ingest-"))
    try:
        with bench_stack(directory) as stack:
            found = {
                shape.value: _compare(
                    stack, shape, directory, chosen.messages, chosen.partitions, chosen.rounds, chosen.sinks
                )
                for shape in chosen.shapes
            }
    finally:
        if chosen.keep is None:
            shutil.rmtree(directory, ignore_errors=True)
    write_results("ingest", {"messages": chosen.messages, "partitions": chosen.partitions, "shapes": found})


def _compare(
    stack: BenchStack, shape: Shape, directory: Path, messages: int, partitions: int, rounds: int, sinks: Sequence[str]
) -> dict[str, object]:
    topic = f"market.equities.{shape.kind.name}.bench.{shape}.{messages}"
    value_bytes = filled(stack, bench_feed(topic), shape, topic, partitions, messages)
    ways = Ways(stack, topic, shape, messages, directory / shape)
    by_name: dict[str, Way] = {
        K2: ways.k2_one_run,
        K2_TWICE: ways.k2_two_runs,
        PLAIN: ways.one_at_a_time,
        LIMIT: ways.consume_alone,
    }
    try:
        java()
        by_name |= {f"sink {version}": lambda version=version: ways.sink(version) for version in sinks}  # type: ignore[misc]
    except SinkUnavailable as error:
        print(f"the sink is left out: {error}", flush=True)
    found: dict[str, list[Ingested]] = {name: [] for name in by_name}
    for number in range(rounds):
        for name, way in by_name.items():
            found[name].append(once := way())
            print(f"  {shape}, round {number + 1}, {name}: {once.steady_per_second:,.0f} messages/s, "
                  f"{once.cpu_seconds_per_million:.2f} CPU-s a million, {once.peak_rss_bytes / 1e9:.2f} GB, first "
                  f"visible after {once.first_visible_seconds:.1f} s", flush=True)  # fmt: skip
    middles = {name: _medians(each) for name, each in found.items()}
    return {"value_bytes": round(value_bytes), "ways": middles, "ratios": _ratios(middles)}


def _medians(rounds: Sequence[Ingested]) -> dict[str, float]:
    columns = [asdict(each) for each in rounds]
    return {name: round(median(each[name] for each in columns), 3) for name in columns[0]} | {"rounds": len(rounds)}


def _ratios(ways: dict[str, dict[str, float]]) -> dict[str, float]:
    """K2's one run beside the others: rates as multiples of theirs, processor time as a share of theirs."""
    own, found = ways[K2], {}
    for name, other in ways.items():
        if name != K2:
            found[f"rate over {name}"] = round(own["steady_per_second"] / other["steady_per_second"], 2)
            found[f"CPU over {name}"] = round(own["cpu_seconds_per_million"] / other["cpu_seconds_per_million"], 3)
    return found


if __name__ == "__main__":
    main()
