import types
from pathlib import Path

import pytest
import requests
import tenacity

from k2_cli.stack.java_lock import Artifact, JavaArtifactError
from k2_cli.stack.maven_download import ATTEMPTS, download

CLIENTS = Artifact("org.apache.kafka", "kafka-clients", "4.3.1", "", "jar", bytes=5, sha256="-")


class Network:
    """Answers what jgo asks for with prepared answers, the last one for ever."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def request(self, _method: str, url: str, **_keywords: object) -> object:
        self.asked.append(url)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Bytes:
    """A progress that adds up what it is told of."""

    def __init__(self) -> None:
        self.total = 0

    def advance(self, size_bytes: int) -> None:
        self.total += size_bytes


def answer(status: int, content: bytes = b"", breaks: bool = False) -> types.SimpleNamespace:
    def chunks(chunk_size: int) -> object:
        yield content
        if breaks:
            raise requests.exceptions.ChunkedEncodingError("connection broken")

    headers = {"content-length": str(len(content))}
    return types.SimpleNamespace(status_code=status, headers=headers, iter_content=chunks, text="")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenacity.nap.time, "sleep", lambda _seconds: None)


def serve(monkeypatch: pytest.MonkeyPatch, *answers: object) -> Network:
    network = Network(*answers)
    monkeypatch.setattr(requests, "request", network.request)
    return network


def test_a_file_that_is_served_lies_in_the_directory_and_its_bytes_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(monkeypatch, answer(200, b"bytes"), answer(404))
    progress = Bytes()
    assert download(CLIENTS, tmp_path / "one", progress).read_bytes() == b"bytes"
    assert progress.total == 5


def test_a_download_that_breaks_off_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, answer(200, b"by", breaks=True), answer(200, b"bytes"), answer(404))
    assert download(CLIENTS, tmp_path / "one", Bytes()).read_bytes() == b"bytes"


def test_a_network_out_of_reach_is_tried_a_few_times_and_explained_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = serve(monkeypatch, requests.ConnectionError("Name or service not known"))
    with pytest.raises(JavaArtifactError, match=r"kafka-clients:4\.3\.1.*can't be downloaded: .*not known.*Check the"):
        download(CLIENTS, tmp_path / "one", Bytes())
    assert len(network.asked) == ATTEMPTS


def test_a_file_that_is_not_served_is_told_apart_and_not_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = serve(monkeypatch, answer(404))
    with pytest.raises(JavaArtifactError, match=r"kafka-clients:4\.3\.1.*is not served"):
        download(CLIENTS, tmp_path / "one", Bytes())
    assert len(network.asked) == 1
