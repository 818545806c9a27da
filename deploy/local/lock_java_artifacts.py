"""Write ``jars.lock.json``: every Java archive that the local stack runs, with its size and sha256.

Run by ``make lock-java`` after a version below has changed. Resolving is done here, once, and not on users'
machines, which fetch exactly what the lock names.
"""

import hashlib
import json
import tempfile
import tomllib
from pathlib import Path

from jgo.env import EnvironmentBuilder
from jgo.maven import MavenContext, PythonResolver

from k2_cli.stack.java_lock import LOCK_FILE

KAFKA_VERSION = "4.3.1"
LOG4J_VERSION = "2.25.4"
REGISTRY_VERSION = "3.3.3"

# kafka-clients is named, since the resolver otherwise takes an older one that the broker can't run with.
KAFKA = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    f"org.apache.kafka:kafka-clients:{KAFKA_VERSION}",
    f"org.apache.logging.log4j:log4j-core:{LOG4J_VERSION}",
    f"org.apache.logging.log4j:log4j-slf4j-impl:{LOG4J_VERSION}",
)
REGISTRY = ("io.apicurio", "apicurio-registry-app", REGISTRY_VERSION, "all", "tar.gz")


def main() -> None:
    """Resolve both programs and write the lock."""
    with tempfile.TemporaryDirectory() as scratch:
        context = MavenContext(resolver=PythonResolver(), repo_cache=Path(scratch) / "repository")
        lock = {"kafka": _kafka(context, Path(scratch) / "environments"), "registry": [_registry(context)]}
    LOCK_FILE.write_text(json.dumps(lock, indent=1) + "\n", encoding="utf-8")


def _kafka(context: MavenContext, environments: Path) -> list[dict[str, str | int]]:
    environment = EnvironmentBuilder(context=context, cache_dir=environments).from_endpoint("+".join(KAFKA))
    resolved = tomllib.loads((Path(environment.path) / "jgo.lock.toml").read_text(encoding="utf-8"))
    names = sorted((each["groupId"], each["artifactId"], each["version"]) for each in resolved["dependencies"])
    return [_entry(context, group, artifact, version, "", "jar") for group, artifact, version in names]


def _registry(context: MavenContext) -> dict[str, str | int]:
    return _entry(context, *REGISTRY)


def _entry(
    context: MavenContext, group: str, artifact: str, version: str, classifier: str, packaging: str
) -> dict[str, str | int]:
    path = context.project(group, artifact).at_version(version).artifact(classifier, packaging).resolve()
    content = path.read_bytes()
    return {
        "group": group,
        "artifact": artifact,
        "version": version,
        "classifier": classifier,
        "packaging": packaging,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


if __name__ == "__main__":
    main()
