"""Feed files that are wrong, in Dagster: the other feeds are there, and what was refused is shown and told."""

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from repository import REPOSITORY, SHIPPED_FEEDS

from k2_market.errors import FeedFileError
from k2_platform.definitions import build_defs
from k2_resources.settings import Settings

SIM = (SHIPPED_FEEDS / "sim.toml").read_text(encoding="utf-8")


def named(name: str, text: str = SIM) -> str:
    return text.replace('"sim"', f'"{name}"', 1).replace(".sim", f".{name}")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a directory of feeds of which one is well."""
    feeds = tmp_path / "feeds"
    feeds.mkdir()
    (feeds / "good.toml").write_text(named("good"), encoding="utf-8")
    (feeds / "tase.toml").write_text(named("tase", SIM.replace("XNYS", "XTAE")), encoding="utf-8")
    (feeds / "seoul.toml").write_text(named("seoul", SIM.replace("2026-01-02", "1850-01-02").replace("XNYS", "XSHG")))
    (feeds / "broken.toml").write_text("name = ", encoding="utf-8")
    (feeds / "twin.toml").write_text(named("asx"), encoding="utf-8")
    return Settings(
        home=tmp_path / "k2", feeds_dir=feeds, kafka_bootstrap="127.0.0.1:1", registry_url="http://127.0.0.1:1"
    )


def feeds_in(defs: dg.Definitions) -> set[str]:
    return {job.name.removesuffix("_ingest") for job in defs.resolve_all_job_defs() if job.name.endswith("_ingest")}


def test_the_other_feeds_are_there_and_a_sensor_fails_with_each_reason(settings: Settings) -> None:
    defs = build_defs(settings=settings)
    assert feeds_in(defs) == {"asx", "hitbtc", "sim", "good"}
    sensor = defs.get_sensor_def("feed_files_sensor")
    assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
    with pytest.raises(FeedFileError) as told:
        sensor(dg.build_sensor_context())
    for words in (
        "4 feed files were refused; the other feeds go on",
        "tase.toml: key calendar: the sessions of 'XTAE' can't be had",
        "seoul.toml: key start_date: calendar 'XSHG' does not reach 1850-01-02",
        "broken.toml: not valid TOML",
        "twin.toml: key name: feed 'asx' is already declared",
    ):
        assert words in str(told.value)


def test_where_no_file_is_refused_the_sensor_is_well_until_a_file_changes(settings: Settings) -> None:
    assert settings.feeds_dir is not None
    for name in ("tase", "seoul", "broken", "twin"):
        (settings.feeds_dir / f"{name}.toml").unlink()
    sensor = build_defs(settings=settings).get_sensor_def("feed_files_sensor")
    assert isinstance(sensor(dg.build_sensor_context()), dg.SkipReason)

    (settings.feeds_dir / "good.toml").unlink()
    (settings.feeds_dir / "new.toml").write_text(named("new"), encoding="utf-8")

    with pytest.raises(FeedFileError, match=r"good\.toml was removed, new\.toml was added\. `k2 up` restarts"):
        sensor(dg.build_sensor_context())


def test_definitions_without_any_feed_load(settings: Settings) -> None:
    assert feeds_in(build_defs(settings=settings, feeds={})) == set()


def loaded_by(program: str, settings: Settings) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | settings.environment_variables(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_code_location_loads_the_others_and_logs_what_was_refused(settings: Settings) -> None:
    program = """
from k2_platform.code_location import defs
print(sorted(job.name for job in defs.resolve_all_job_defs() if job.name.endswith("_ingest")))
"""
    assert loaded_by(program, settings).strip() == str([f"{feed}_ingest" for feed in ("asx", "good", "hitbtc", "sim")])
    log = (settings.log_directory / "k2.jsonl").read_text(encoding="utf-8")
    refused = [line for line in log.splitlines() if '"feed file refused"' in line]
    assert len(refused) == 4
    assert any("XTAE" in line and "tase.toml" in line for line in refused)


RUN = """
import sys
from multiprocessing import get_context

def load():
    from k2_platform.code_location import defs
    defs.resolve_job_def("good_ingest")
    print("exchange_calendars" in sys.modules)

if __name__ == "__main__":
    import k2_platform.code_location  # the server
    process = get_context("spawn").Process(target=load)
    process.start()
    process.join()
    sys.exit(process.exitcode)
"""


def test_the_process_of_a_run_looks_no_calendars_up(settings: Settings, tmp_path: Path) -> None:
    program = tmp_path / "run.py"
    program.write_text(RUN, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(program)],
        env=os.environ | settings.environment_variables() | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "False"), done.stderr[-3000:]
