"""Names what can be wrong with ingestion, and advises what to do about each."""

from collections.abc import Mapping
from enum import StrEnum


class AlarmKind(StrEnum):
    """Describes what is wrong, in the words of an alert's title."""

    ROLLED_BACK = "table rolled back"
    UNTRUSTED = "ledger can't be trusted"
    TRUNCATED = "log truncated"
    LOST = "offsets lost to retention"
    SET_ASIDE = "messages set aside"
    UNREAD = "unreadable offsets set aside"
    RECREATED = "topic recreated"
    DELETED = "topic deleted"
    OPEN_TRANSACTION = "open transaction holds up readers"
    STANDSTILL = "ingestion stands still"
    SENSOR_FAILS = "sensor keeps failing"
    FEED_REFUSED = "feed file refused"
    FEEDS_CHANGED = "feed files changed"
    SILENT = "silent in its session"
    EMPTY_SESSION = "session without trades"
    NEVER_SPOKE = "no message yet"
    LEFT_BEHIND = "messages left in a former topic"
    POOL_CLOSED = "pool has no slots"
    DISK = "disk is filling up"
    NOT_READ = "can't be looked at"
    AWAY = "does not answer"


ADVICE: Mapping[AlarmKind, str] = {
    AlarmKind.ROLLED_BACK: "Ingestion stands still until it is rolled forward: `k2 repair --feed {feed} "
    "--roll-forward`.",
    AlarmKind.UNTRUSTED: "Ingestion stands still. `k2 verify ledger --feed {feed}` says what is wrong.",
    AlarmKind.TRUNCATED: "What the topic gives there now may be something else, so its ingestion is halted. "
    "`k2 repair --feed {feed} --unhalt` shows what it gives there, and ends the halt where that is what was ingested. "
    "Where it is something else, create the topic anew: its new id is ingested by itself.",
    AlarmKind.LOST: "They are gone, and recorded as lost; ingestion goes on behind them. Give the topic more room "
    "(retention.bytes), or load them again from their source. `k2 repair --feed {feed} --unhalt` takes back what is "
    "recorded as lost and is not.",
    AlarmKind.SET_ASIDE: "They are dead letters with their bytes, and everything else goes on. Once the cause is "
    "mended, `k2 repair --feed {feed} --dead-letters` tries them again; otherwise have the trades sent again.",
    AlarmKind.UNREAD: "No row has them, and everything else goes on. Have the trades sent again; where broker or "
    "client were mended, `k2 repair --feed {feed} --dead-letters` reads them again.",
    AlarmKind.RECREATED: "Ingestion goes on under the new id by itself; what is missing has to come from its source.",
    AlarmKind.DELETED: "Create it anew, and its new id is ingested by itself; what is missing has to come from its "
    "source.",
    AlarmKind.OPEN_TRANSACTION: "Nothing behind it can be read until its producer ends it, or Kafka does after the "
    "producer's transaction.timeout.ms; `kafka-transactions.sh find-hanging` finds one that Kafka forgot.",
    AlarmKind.STANDSTILL: "Look at {feed}_kafka_sensor in Dagster: is it switched on, and what did its last ticks say?",
    AlarmKind.SENSOR_FAILS: "What it starts is not started until that ends.",
    AlarmKind.FEED_REFUSED: "Nothing of that feed is ingested or built; the others go on. Correct the file, then "
    "restart the stack: `k2 down`, `k2 up`.",
    AlarmKind.FEEDS_CHANGED: "The running stack goes on with the feeds that it was started with. `k2 up` restarts what "
    "has to know them.",
    AlarmKind.SILENT: "Look at what produces to its topic. `[silence] minutes` in the feed's file says how long it may "
    "be silent; 0 ends these alerts.",
    AlarmKind.EMPTY_SESSION: "Load the days from their source, or add the holiday to the feed's calendar. "
    "`k2 days --feed {feed}` lists the days that there are.",
    AlarmKind.NEVER_SPOKE: "Is its producer running, and does it write to that topic? `[silence] minutes = 0` in the "
    "feed's file ends this alert.",
    AlarmKind.LEFT_BEHIND: "The feed's file names another topic now. Name the former one again until it is read, or "
    "delete it in Kafka if its messages are not wanted.",
    AlarmKind.POOL_CLOSED: "Runs of that pool wait in the queue for ever. Give it a slot again in Dagster: Deployment, "
    "Concurrency.",
    AlarmKind.DISK: "When it is full, nothing can be ingested or built; what was committed stays. `k2 maintain` and "
    "`k2 clean-orphans` make room.",
    AlarmKind.NOT_READ: "Whether ingestion is well is not known until it can.",
    AlarmKind.AWAY: "Ingestion goes on by itself when it answers again. `k2 status` shows what runs.",
}
"""Consequence of each alarm, and advice on it; ``{feed}`` is the feed's name."""
