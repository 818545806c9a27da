"""One real local stack for all end-to-end tests: three simulated days, one with faults, taken in by the sensors."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from free_ports import free_ports
from running_stack import RunningStack
from simulated_days import SimulatedDays
from webhook import running_webhook

from k2_cli.stack.java_artifacts import JavaArtifacts
from k2_cli.stack.local_stack import LocalStack
from k2_cli.stack.process_supervision import Supervisor
from k2_market.feeds.feed import feed_named, load_feeds
from k2_market.feeds.trading_calendar import TradingCalendar
from k2_resources.settings import Settings

TRADES_A_DAY = 3_000
FAULTS = "gaps,duplicates,negative-price,corrupt"
_PORTS = ("kafka_port", "kafka_controller_port", "registry_port", "dagster_port", "code_server_port", "metrics_port")


@pytest.fixture(scope="session")
def empty_stack(tmp_path_factory: pytest.TempPathFactory, java_artifacts: JavaArtifacts) -> Iterator[RunningStack]:
    """A stack that is set up and not started, with a webhook that listens."""
    java_artifacts.kafka_classpath(), java_artifacts.registry_directory()
    home = tmp_path_factory.mktemp("e2e") / "k2"
    home.mkdir()
    (home / "java").symlink_to(java_artifacts.directory)
    ports: dict[str, Any] = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
    with running_webhook() as webhook:
        settings = Settings(home=home, alert_webhook=webhook.url, **ports)
        supervisor = Supervisor(home / "run", settings.log_directory, until_parent_ends=True)
        stack = LocalStack(home, LocalStack.of(settings).services, supervisor)
        try:
            yield RunningStack(settings, stack, webhook)
        finally:
            stack.down(report=lambda line: None)


@pytest.fixture(scope="session")
def simulated(empty_stack: RunningStack) -> SimulatedDays:
    """Three days on Kafka, sent before the daemon starts, so that its first look finds them whole."""
    empty_stack.start("kafka", "registry")
    calendar = TradingCalendar.of(feed_named(load_feeds(empty_stack.settings.feed_directories), "sim"))
    days = [calendar.previous_trading_day(calendar.trading_day_of(datetime.now(UTC)))]
    while len(days) < 3:
        days.insert(0, calendar.previous_trading_day(days[0]))
    planted: dict[str, int] = {}
    for day, faults in zip(days, (FAULTS, "", ""), strict=True):
        request = ["--feed", "sim", "--date", day.isoformat(), "--trades", str(TRADES_A_DAY), "--seed", "7"]
        produced = json.loads(empty_stack.k2("simulate", *request, "--faults", faults, "--json"))
        for each in produced["planted"]:
            planted[each["fault"]] = planted.get(each["fault"], 0) + each["count"]
    first, second, third = (day.isoformat() for day in days)
    return SimulatedDays((first, second, third), planted)


@pytest.fixture(scope="session")
def stack(empty_stack: RunningStack, simulated: SimulatedDays) -> RunningStack:
    """The stack, all of it started, after its sensors have done what was pending."""
    empty_stack.start()
    empty_stack.wait_until_caught_up("sim")
    return empty_stack
