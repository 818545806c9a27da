"""Reads K2's settings, which may differ between machines, each from ``K2_<NAME>``."""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from k2_market.browser_requests import OwnHosts
from k2_market.errors import K2Error
from k2_resources.files.path_names import directory_location, sqlite_uri
from k2_resources.secret_redaction import SecretRedaction

SHIPPED_FEEDS = Path(str(files("k2_market.feeds") / "shipped"))
"""The feed files that ship, inside the package."""
_PORT_FIELDS = (
    "kafka_port",
    "kafka_controller_port",
    "registry_port",
    "dagster_port",
    "code_server_port",
    "metrics_port",
)


class SettingsError(K2Error):
    """An environment variable ``K2_…`` holds a value that can't be used."""


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


_AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
_Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseSettings):
    """K2's settings; the defaults are the laptop's local stack on loopback.

    Attributes whose default depends on another one are ``None`` until set: read them by their property
    (``bootstrap_servers``, ``schema_registry_url``, ``iceberg_catalog_uri``, ``iceberg_warehouse``).
    """

    model_config = SettingsConfigDict(env_prefix="K2_", env_ignore_empty=True, frozen=True, extra="forbid")

    home: _AbsolutePath = Field(default=Path(".k2"), validate_default=True)
    """Directory of everything that K2 makes on this machine: data, logs, downloads. Made absolute."""
    feeds_dir: _AbsolutePath | None = None
    """A directory of feed files, beside those that ship."""
    environment: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")] = "local"

    kafka_port: _Port = 19092
    kafka_controller_port: _Port = 19093
    registry_port: _Port = 18081
    dagster_port: _Port = 3000
    code_server_port: _Port = 4266
    metrics_port: _Port = 9464
    metrics_host: str = "127.0.0.1"
    """The address that the metrics exporter listens on; another than loopback only inside a container."""
    ui_hosts: str = ""
    """Hosts beside this machine's own by which the UI, the registry and the metrics may be asked, as a proxy's in front
    of them: ``name`` or ``name:port``, commas between them."""

    kafka_bootstrap: str | None = None
    registry_url: str | None = None
    registry_password: SecretStr | None = None
    """Secret shared by registry and guard where the guard does not start the registry: in containers."""
    catalog_uri: str | None = None
    warehouse: str | None = None

    alert_webhook: SecretStr | None = None
    """Webhook for alerts (Slack-compatible JSON); without it they go to the log. Secret: it holds a token."""
    log_megabytes: Annotated[int, Field(ge=1)] = 100
    """Size at which a log is moved away."""
    log_files: Annotated[int, Field(ge=1, le=1000)] = 5
    """Number of rotated files that are kept of each log."""
    keep_runs_days: Annotated[int, Field(ge=0)] = 90
    """Days for which Dagster's records of a run are kept after its last change; 0 keeps them for ever. Runs that made
    or checked a day last are kept."""
    log_format: Literal["json", "console"] | None = None
    """Format of log lines on stderr; ``None`` leaves it to whether stderr is a terminal."""

    @classmethod
    def load(cls) -> Self:
        """Return the settings of this process's environment.

        Raises:
            SettingsError: A variable's value is unusable; names each variable, what was found and what was expected.
        """
        try:
            return cls()
        except ValidationError as error:
            wrong = "; ".join(_explain(problem["loc"], problem["msg"], problem["input"]) for problem in error.errors())
            raise SettingsError(f"environment: {wrong}. Correct or unset it and run the command again.") from error

    def environment_variables(self) -> dict[str, str]:
        """Return the environment with which another process loads the same settings. Secrets are in the clear."""
        values = {_variable(name): getattr(self, name) for name in type(self).model_fields}
        return {
            variable: value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            for variable, value in values.items()
            if value is not None
        }

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        taken: dict[int, str] = {}
        for name in _PORT_FIELDS:
            port = getattr(self, name)
            if port in taken:
                both = f"{_variable(taken[port])} and {_variable(name)}"
                raise ValueError(f"{both} are both {port}; each needs its own port")
            taken[port] = name
        return self

    @field_validator("ui_hosts")
    @classmethod
    def _are_hosts(cls, text: str) -> str:
        OwnHosts.parse(text)
        return text

    @property
    def own_hosts(self) -> OwnHosts:
        """The hosts by which K2's servers may be asked."""
        return OwnHosts.parse(self.ui_hosts)

    @property
    def bootstrap_servers(self) -> str:
        """Kafka's bootstrap servers."""
        return self.kafka_bootstrap or f"127.0.0.1:{self.kafka_port}"

    @property
    def schema_registry_url(self) -> str:
        """The Confluent-compatible API of the schema registry."""
        return self.registry_url or f"http://127.0.0.1:{self.registry_port}/apis/ccompat/v7"

    @property
    def iceberg_catalog_uri(self) -> str:
        """The Iceberg SQL catalog, as SQLAlchemy names it."""
        return self.catalog_uri or sqlite_uri(self.home / "catalog.db")

    @property
    def iceberg_warehouse(self) -> str:
        """The URI under which Iceberg tables lie."""
        return self.warehouse or directory_location(self.home / "warehouse")

    @property
    def feed_directories(self) -> list[Path]:
        """Tell where feed files lie: those that ship, then ``feeds_dir`` if set."""
        return [SHIPPED_FEEDS] if self.feeds_dir is None else [SHIPPED_FEEDS, self.feeds_dir]

    @property
    def dagster_home(self) -> Path:
        """Dagster's own home (``DAGSTER_HOME``)."""
        return self.home / "dagster"

    @property
    def log_directory(self) -> Path:
        """Tell where K2's log and those of the local stack's processes lie."""
        return self.home / "logs"


_NO_SETTINGS = frozenset(
    {"K2_CRASH_AT", "K2_PAUSE_AT", "K2_POSTGRES_HOST", "K2_POSTGRES_PASSWORD", "K2_SUPERVISED", "K2_TEST_DATA"}
)
"""Variables that other parts of K2 read, or its tests."""


def unknown_variables(names: Iterable[str]) -> list[str]:
    """Say of each environment variable ``K2_…`` that is no setting that it is none, and which one was likely meant."""
    known = {_variable(field) for field in Settings.model_fields}
    unknown = sorted(
        name for name in names if name.upper().startswith("K2_") and name.upper() not in known | _NO_SETTINGS
    )
    return [
        f"{name} is no setting and is ignored"
        + "".join(f"; did you mean {near}?" for near in get_close_matches(name.upper(), known, n=1))
        for name in unknown
    ]


def _explain(location: tuple[int | str, ...], message: str, found: object) -> str:
    if not location:
        return message
    name = str(location[0])
    field = Settings.model_fields.get(name)
    is_secret = field is None or "SecretStr" in str(field.annotation)
    shown = "(a secret)" if is_secret else SecretRedaction.of().text(repr(found))
    return f"{_variable(name)}: {message} (found {shown})"


def _variable(field: str) -> str:
    return f"K2_{field.upper()}"
