"""A program that carries out one planned ingest run: ``planned_run.py FEED PLAN``."""

import json
import sys

from k2_assets.names import ingest_job_name
from k2_market.kinds.trades import TRADES
from k2_platform.catch_up import feeds_named, local_instance
from k2_platform.definitions import build_defs
from k2_resources.logs.structured_logging import configure_logging
from k2_resources.settings import Settings


def main(name: str, plan: str) -> int:
    """Run it; 0 when it succeeded."""
    settings, planned = Settings.load(), json.loads(plan)
    configure_logging("planned-run", settings)
    (feed,) = feeds_named(settings, [name])
    job = build_defs(settings=settings, feeds={name: feed}).resolve_job_def(ingest_job_name(feed.name, TRADES))
    with local_instance(settings) as instance:
        result = job.execute_in_process(
            instance=instance,
            partition_key=planned["key"],
            run_config=planned["config"],
            tags=planned["tags"],
            raise_on_error=False,
        )
    return 0 if result.success else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
