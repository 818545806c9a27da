"""Fetches one file of a Maven repository, and retries when the network fails."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from k2_cli.stack.download_progress import Progress
from k2_cli.stack.java_lock import Artifact, JavaArtifactError

ATTEMPTS = 3
_LONGEST_WAIT_SECONDS = 10


def download(artifact: Artifact, directory: Path, progress: Progress) -> Path:
    """Fetch an artifact into a directory of its own and say where it lies.

    Raises:
        JavaArtifactError: The repository can't be reached, or does not serve it.
    """
    import requests
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

    policy = Retrying(
        retry=retry_if_exception_type(requests.RequestException),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(max=_LONGEST_WAIT_SECONDS),
        reraise=True,
    )
    try:
        return policy(_fetch, artifact, directory, progress)
    except requests.RequestException as error:
        raise JavaArtifactError(
            f"{artifact.coordinates} can't be downloaded: {_reason(error)}. The local stack needs the network once, to "
            "fetch Java archives from the Maven repository. Check the connection (and HTTPS_PROXY), then run it again: "
            "what was fetched so far is kept."
        ) from error
    except RuntimeError as error:
        raise JavaArtifactError(
            f"{artifact.coordinates} is not served by the Maven repository that this machine reaches. If a mirror "
            "stands in between, it must serve that version."
        ) from error


def _fetch(artifact: Artifact, directory: Path, progress: Progress) -> Path:
    from jgo.maven import MavenContext, PythonResolver

    @contextmanager
    def report(_name: str, _size_bytes: int) -> Iterator[Callable[[int], None]]:
        yield progress.advance

    shutil.rmtree(directory, ignore_errors=True)  # what an earlier attempt left would be taken for the whole
    context = MavenContext(resolver=PythonResolver(progress_callback=report), repo_cache=directory)
    component = context.project(artifact.group, artifact.artifact).at_version(artifact.version)
    return Path(component.artifact(artifact.classifier, artifact.packaging).resolve())


def _reason(error: Exception) -> str:
    cause: BaseException = error
    while cause.__context__ is not None:
        cause = cause.__context__
    return f"{type(error).__name__}: {cause}"
