"""What the fault tests share: one seed, one tally of what was tried, and its summary at the end."""

import os
import random
from typing import Any

import pytest
from fault_tally import FaultTally

_TALLY = pytest.StashKey[FaultTally]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seed",
        type=int,
        default=None,
        help="seed of the fault tests; TEST_SEED unless given, else chosen at random",
    )
    parser.addoption("--chaos-seconds", type=int, default=60, help="how long every process is killed at random")
    parser.addoption("--replay", type=int, default=None, help="run this one simulated schedule again, and tell it")


def pytest_configure(config: pytest.Config) -> None:
    seed = config.getoption("--seed", None)
    if seed is None and "TEST_SEED" in os.environ:
        seed = int(os.environ["TEST_SEED"])
    config.stash[_TALLY] = FaultTally(random.SystemRandom().randrange(1_000_000) if seed is None else seed)


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> FaultTally:
    """Counts what this session tried."""
    return pytestconfig.stash[_TALLY]


@pytest.fixture
def seeded(tally: FaultTally, request: pytest.FixtureRequest) -> random.Random:
    """This test's random choices: the same for the same session seed."""
    return random.Random(f"{tally.seed} {request.node.nodeid}")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    tally = config.stash.get(_TALLY, None)
    if tally is not None and (tally.injections or tally.simulated_seeds):
        terminalreporter.section("faults")
        for line in tally.lines():
            terminalreporter.write_line(line)
