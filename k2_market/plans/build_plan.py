"""Plans builds: closed days whose trades and bars are older than their raw rows, and may be built now."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from k2_market.feeds.trading_calendar import TradingCalendar
from k2_market.plans.day_builds import Builds, Versions, stale_days
from k2_market.plans.ingest_plan import is_resting

MAX_DAYS_PER_RUN = 200
GRACE = timedelta(minutes=30)
"""Time that a day gets after its close for its last trades to arrive; the closing schedule runs then."""


@dataclass(frozen=True)
class FailedBuild:
    """A build that failed: its days, which attempt it was, what it was made from, and when it ended."""

    days: frozenset[date]
    attempt: int
    ended: datetime
    raw_version: int


@dataclass(frozen=True)
class BuildFacts:
    """All that the plan depends on.

    Attributes:
        versions: The version of each day's raw rows.
        builds: What each day of the table that is made last was made from.
        blocked: Days whose raw rows failed a blocking check.
        building: Days that a queued or running build will make.
        ingesting_from: First trading day of a run that is filling raw tables now; None if there is none.
        failed: Recent failed builds.
        now: The time.
    """

    versions: Versions
    builds: Builds
    blocked: frozenset[date]
    building: frozenset[date]
    ingesting_from: date | None
    failed: tuple[FailedBuild, ...]
    now: datetime


@dataclass(frozen=True)
class BuildPlan:
    """A run to request: these days, the newest of whose raw rows are of ``version``."""

    days: tuple[date, ...]
    attempt: int
    version: int

    @property
    def run_key(self) -> str:
        """Days, raw version and attempt: the same plan made twice is one run."""
        return f"build-{self.days[0]}-{len(self.days)}-{self.version}-{self.attempt}"


def plan_builds(facts: BuildFacts, calendar: TradingCalendar) -> BuildPlan | None:
    """Return the closed stale days to build next, in one run; None when there are none.

    A day waits while a run that fills it, or days after it, is under way, and while its last build rests after
    a failure; new raw rows end that rest at once.
    """
    free = [day for day in stale_days(facts.versions, facts.builds) if _may_build(day, facts, calendar)]
    if not free:
        return None
    attempts = {day: _attempt(day, facts) for day in free}
    attempt = attempts[free[0]]
    days = tuple(day for day in free if attempts[day] == attempt)[:MAX_DAYS_PER_RUN]
    if attempt > 1:
        days = days[:1]  # after a failure, alone: a day that can't be built must not hold up its neighbours
    return BuildPlan(days, attempt, max(facts.versions[day] for day in days))


def is_open(day: date, calendar: TradingCalendar, now: datetime) -> bool:
    """Say whether trades of a day still come as usual: it has not closed, or its last trades may be on their way."""
    return now < calendar.closes_at(day) + GRACE


def _may_build(day: date, facts: BuildFacts, calendar: TradingCalendar) -> bool:
    if day in facts.building or day in facts.blocked:
        return False
    if facts.ingesting_from is not None and day >= facts.ingesting_from:
        return False
    if is_open(day, calendar, facts.now):
        return False
    failed = (run for run in facts.failed if day in run.days and run.raw_version >= facts.versions[day])
    return not any(is_resting(run.ended, run.attempt, facts.now) for run in failed)


def _attempt(day: date, facts: BuildFacts) -> int:
    return 1 + max(
        (run.attempt for run in facts.failed if day in run.days and run.raw_version >= facts.versions[day]),
        default=0,
    )
