"""What Dagster loads: the definitions that this process's environment asks for, with logging and counts set up."""

from k2_resources.collector_pause import loaded_for_good

with loaded_for_good():
    from k2_assets.definitions import build_defs
    from k2_resources.event_counts import keep_counts
    from k2_resources.rust_panics import end_without_backtrace
    from k2_resources.settings import Settings
    from k2_resources.structured_logging import configure_logging

    end_without_backtrace()
    _settings = Settings.load()
    configure_logging("dagster", _settings)
    keep_counts(_settings)
    defs = build_defs(settings=_settings)
