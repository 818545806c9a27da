from pathlib import Path

import pytest

from k2_resources.settings import Settings, SettingsError


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"K2_{name.upper()}", raising=False)


def test_the_defaults_are_the_local_stack_on_loopback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.load()
    assert settings.home == tmp_path / ".k2"
    assert settings.bootstrap_servers == "127.0.0.1:19092"
    assert settings.schema_registry_url == "http://127.0.0.1:18081/apis/ccompat/v7"
    assert settings.iceberg_catalog_uri == f"sqlite:///{tmp_path}/.k2/catalog.db"
    assert settings.iceberg_warehouse == f"file://{tmp_path}/.k2/warehouse"
    assert settings.dagster_home == tmp_path / ".k2" / "dagster"
    assert settings.log_directory == tmp_path / ".k2" / "logs"


def test_a_moved_port_moves_the_addresses_that_follow_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_KAFKA_PORT", "29092")
    monkeypatch.setenv("K2_REGISTRY_PORT", "28081")
    settings = Settings.load()
    assert settings.bootstrap_servers == "127.0.0.1:29092"
    assert settings.schema_registry_url == "http://127.0.0.1:28081/apis/ccompat/v7"


def test_an_address_that_is_set_wins_over_the_local_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_KAFKA_BOOTSTRAP", "kafka:9092")
    monkeypatch.setenv("K2_CATALOG_URI", "postgresql+psycopg2://k2@postgres/k2")
    settings = Settings.load()
    assert settings.bootstrap_servers == "kafka:9092"
    assert settings.iceberg_catalog_uri == "postgresql+psycopg2://k2@postgres/k2"


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_ALERT_WEBHOOK", "")
    monkeypatch.setenv("K2_KAFKA_PORT", "")
    settings = Settings.load()
    assert settings.alert_webhook is None
    assert settings.kafka_port == 19092


def test_the_shipped_feeds_come_before_the_operators_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("K2_FEEDS_DIR", str(tmp_path))
    shipped, own = Settings.load().feed_directories
    assert (shipped / "asx.toml").is_file()
    assert own == tmp_path


def test_a_wrong_value_is_refused_with_its_variable_and_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_KAFKA_PORT", "ninety")
    monkeypatch.setenv("K2_LOG_FORMAT", "xml")
    with pytest.raises(SettingsError, match=r"K2_KAFKA_PORT: .*'ninety'.*K2_LOG_FORMAT: .*'xml'"):
        Settings.load()


@pytest.mark.parametrize("port", ["0", "-1", "65536"])
def test_a_port_outside_tcps_range_is_refused(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("K2_METRICS_PORT", port)
    with pytest.raises(SettingsError, match="K2_METRICS_PORT"):
        Settings.load()


def test_two_services_on_one_port_are_refused_by_the_names_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_REGISTRY_PORT", "3000")
    with pytest.raises(SettingsError, match="K2_REGISTRY_PORT and K2_DAGSTER_PORT are both 3000"):
        Settings.load()


def test_the_webhook_is_not_shown_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_ALERT_WEBHOOK", "https://hooks.example/T000/secret")
    assert "secret" not in repr(Settings.load()).replace("SecretStr", "")


def test_a_process_with_the_environment_variables_loads_the_same_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, kafka_port=29092, alert_webhook="https://hooks.example/T000", log_format="json")
    for name, value in settings.environment_variables().items():
        monkeypatch.setenv(name, value)
    assert Settings.load() == settings
