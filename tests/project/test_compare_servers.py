"""That two servers are found alike where they are, and different wherever a client would see a difference."""

from collections.abc import Callable, Iterator

import httpx2
import pytest

from scripts.compare_servers import Answer, ask, compare, main
from scripts.compared_requests import ASKED, FEW, REFUSED, Request, of_recording, without_recording
from tests.support.bad_inputs import DATA
from tests.support.serving import TRANSCRIPTIONS, Running, serving

SPEECH = DATA / "en_00.wav"
REQUEST = Request(
    "one", fields={"model": "whisper-1", "include[]": ["logprobs", "words"]}, file=("a.wav", b"sound")
)


def answer(*, status: int = 200, headers: dict[str, str] | None = None, body: bytes = b"{}") -> Answer:
    """The answer that is seen of a server that says this."""

    def serve(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status, headers=headers, content=body)

    with httpx2.Client(transport=httpx2.MockTransport(serve)) as client:
        return ask(client, "http://server", REQUEST, ignored=frozenset({"x-new"}))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (answer(), answer(status=201)),
        (answer(), answer(body=b"{} ")),
        (answer(headers={"content-type": "text/plain"}), answer(headers={"content-type": "text/html"})),
        (answer(headers={"x-should-retry": "false"}), answer()),
        (answer(body=b'{"duration": 1.0}'), answer(body=b'{"duration": 1.5}')),
        (answer(body=b"data: {}\r\n\r\n"), answer(body=b"data: {}\n\n")),
    ],
)
def test_what_a_client_sees_is_compared(one: Answer, other: Answer) -> None:
    compared = compare(lambda _: one, lambda _: other, REQUEST)
    assert compared.outcome == "different"
    assert compared.difference


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (answer(body=b'{"created": 12, "id": "a"}'), answer(body=b'{"created": 7, "id": "a"}')),
        (answer(body=b'{"expires_at":null}'), answer(body=b'{"expires_at":1767225840.5}')),
        (answer(headers={"x-request-id": "a", "date": "b"}), answer(headers={"x-request-id": "c"})),
        (answer(body=b": still working\r\n\r\ndata: 1\r\n\r\n"), answer(body=b"data: 1\r\n\r\n")),
        (answer(headers={"x-new": "1"}), answer()),
    ],
)
def test_what_is_of_one_answer_alone_is_not(one: Answer, other: Answer) -> None:
    compared = compare(lambda _: one, lambda _: other, REQUEST)
    assert compared.outcome == "same", compared.difference


@pytest.mark.parametrize("sampled", ["before", "after"])
def test_an_answer_that_differs_from_itself_is_counted_apart(sampled: str) -> None:
    answers = iter([answer(body=b"one"), answer(body=b"one"), answer(body=b"two")])
    sides = {"before": lambda _: answer(body=b"three"), "after": lambda _: answer(body=b"three")}
    sides[sampled] = lambda _: next(answers)
    assert compare(sides["before"], sides["after"], REQUEST).outcome == "unstable"


def test_a_server_that_hangs_up_is_a_difference_like_others() -> None:
    def hang_up(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.RemoteProtocolError("gone", request=request)

    with httpx2.Client(transport=httpx2.MockTransport(hang_up)) as client:
        assert ask(client, "http://server", REQUEST) == Answer(0, (), b"RemoteProtocolError")


def test_a_request_is_a_form_of_all_its_fields_and_its_file() -> None:
    seen: list[httpx2.Request] = []

    def serve(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200)

    with httpx2.Client(transport=httpx2.MockTransport(serve)) as client:
        ask(client, "http://server", REQUEST)
    (request,) = seen
    assert request.url == f"http://server{TRANSCRIPTIONS}"
    assert request.headers["content-type"].startswith("multipart/form-data")
    assert request.content.count(b'name="include[]"') == 2
    assert b'name="file"; filename="a.wav"' in request.content


def test_each_request_has_a_name_of_its_own() -> None:
    names = [request.name for request in (*without_recording(), *of_recording(SPEECH))]
    assert len(names) == len(set(names))
    assert all(f"en_00.wav: {name}" in names for name in ASKED)
    assert all(f"refused: {name}" in names for name in REFUSED)
    assert {request.name for request in of_recording(SPEECH, few=True)} == {f"en_00.wav: {name}" for name in FEW}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving() as running:
        yield running


@pytest.fixture
def counts(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    return lambda: capsys.readouterr().out.splitlines()[-1]


def test_a_server_is_like_itself(server: Running, counts: Callable[[], str]) -> None:
    few = "^en_00.wav: |^refused: (no model|no beam)$|^file: picture|^GET /api/ps$"
    assert main([server.base_url, server.base_url, "--only", few, "--few", str(SPEECH)]) == 0
    assert counts() == f"{len(FEW) + 4} same, 0 unstable, 0 different"


def test_a_server_of_another_dialect_is_not(server: Running, counts: Callable[[], str]) -> None:
    formats = "^en_00.wav: (json|srt|verbose_json)$"
    with serving(response_dialect="nested") as other:
        assert main([server.base_url, other.base_url, "--only", formats, str(SPEECH)]) == 1
    assert counts() == "2 same, 0 unstable, 1 different"


def test_where_nothing_was_compared_nothing_is_alike() -> None:
    assert main(["http://127.0.0.1:1", "http://127.0.0.1:1", "--only", "no such request"]) == 1


@pytest.mark.slow
def test_every_request_has_the_answer_it_is_meant_for(server: Running) -> None:
    """The table asks for what the server knows: nothing of a recording is refused, everything that should be is."""
    with httpx2.Client() as client:
        for request in (*without_recording(), *of_recording(SPEECH)):
            status = ask(client, server.base_url, request).status
            if request.name.startswith(SPEECH.name):
                assert status == 200, request.name
            elif request.name.startswith(("refused: ", "body: ")):
                assert status in {400, 404}, request.name
