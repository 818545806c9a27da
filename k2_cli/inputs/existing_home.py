"""Finds the home of a command that only reads: such a command never makes one."""

from k2_market.errors import K2Error
from k2_resources.settings import Settings


class NoHome(K2Error):
    """There is no K2 home where a command looks for one."""


def settings_of_home() -> Settings:
    """Load the settings of a home that is there.

    Raises:
        NoHome: There is none; the message says where was looked.
        SettingsError: A setting is wrong.
    """
    settings = Settings.load()
    if settings.catalog_uri is None and not settings.home.is_dir():
        raise NoHome(
            f"there is no K2 home at {settings.home}. K2_HOME says where it is; it is .k2 in the current directory "
            "unless set. `k2 up` makes one"
        )
    return settings
