"""What Dagster loads: the definitions that this process's environment asks for, with logging set up."""

from k2_assets.definitions import build_defs
from k2_resources.settings import Settings
from k2_resources.structured_logging import configure_logging

_settings = Settings.load()
configure_logging("dagster", _settings)
defs = build_defs(settings=_settings)
