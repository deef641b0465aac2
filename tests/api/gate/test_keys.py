import base64

import pytest
from starlette.datastructures import Headers

from server.api.gate.keys import Keys
from server.errors import PermissionDenied, SottoError, Unauthorized

KEY = "first-key-0123456789abcdefgh"
SECOND = "second-key-0123456789abcdefg"
WRONG = "wrong-key-0123456789abcdefgh"
ADMIN = "admin-key-0123456789abcdefgh"
KEYS = Keys([f"laptop {KEY}", SECOND])
BOTH = Keys([f"laptop {KEY}", SECOND], [f"laptop {ADMIN}"])


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {KEY} "},
        {"authorization": basic("anyone", KEY)},
        {"authorization": basic("", KEY)},
        {"api-key": KEY},
        {"authorization": "Bearer ", "api-key": KEY},
        {"authorization": f"Bearer {WRONG}", "api-key": KEY},
        {"authorization": basic("of the", "proxy"), "api-key": KEY},
    ],
)
def test_a_key_is_taken_wherever_clients_put_it(headers: dict[str, str]) -> None:
    assert KEYS.check(Headers(headers)) == "laptop"


def test_a_key_without_a_name_goes_by_its_place() -> None:
    assert KEYS.check(Headers({"api-key": SECOND})) == "key 2"


def test_a_name_is_no_part_of_a_key() -> None:
    for offered in (f"laptop {KEY}", "laptop", ""):
        with pytest.raises(Unauthorized):
            KEYS.check(Headers({"api-key": offered}))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": KEY},
        {"authorization": f"Digest {KEY}"},
        {"authorization": basic("anyone", "")},
        {"authorization": basic(KEY, "")},
        {"authorization": "Basic not-base64!"},
        {"authorization": "Basic /w=="},
        {"api-key": " "},
        {"x-api-key": KEY},
    ],
)
def test_a_request_without_a_key_is_asked_for_one(headers: dict[str, str]) -> None:
    with pytest.raises(Unauthorized, match=r"^You didn't provide an API key") as caught:
        KEYS.check(Headers(headers))
    assert caught.value.code is None


@pytest.mark.parametrize(
    "headers", [{"authorization": f"Bearer {WRONG}"}, {"api-key": WRONG}, {"authorization": basic(KEY, WRONG)}]
)
def test_a_wrong_key_is_shown_so_that_its_owner_knows_it(headers: dict[str, str]) -> None:
    with pytest.raises(Unauthorized, match=r"^Incorrect API key provided: wrong-ke\*\*\*efgh\.$") as caught:
        KEYS.check(Headers(headers))
    assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Bearer "}, {"authorization": "Basic !"}, {"api-key": WRONG}]
)
def test_every_request_is_accepted_without_keys(headers: dict[str, str]) -> None:
    assert Keys([]).check(Headers(headers)) == ""


# Admin keys


def test_an_admin_key_opens_all_other_routes_too() -> None:
    for keys, name in ((BOTH, "laptop"), (Keys([], ["a", ADMIN]), "admin key 2")):
        headers = Headers({"authorization": basic("", ADMIN)})
        assert keys.check(headers) == name
        keys.check_admin(headers)


@pytest.mark.parametrize(
    ("keys", "offered", "kind", "message"),
    [
        (
            BOTH,
            KEY,
            PermissionDenied,
            "needs an admin key .* the key of this request is not one",
        ),  # of the same name
        (BOTH, WRONG, Unauthorized, "Incorrect API key"),
        (BOTH, "", Unauthorized, "You didn't provide"),
        (KEYS, KEY, PermissionDenied, "this server has none"),
        (Keys([], [ADMIN]), WRONG, Unauthorized, "Incorrect API key"),
        (Keys([], [ADMIN]), "", Unauthorized, "You didn't provide"),
        (Keys([]), WRONG, PermissionDenied, r"this server has none \(SOTTO_ADMIN_KEYS\)"),
        (Keys([]), "", PermissionDenied, "this server has none"),
    ],
)
def test_nothing_but_an_admin_key_is_one(keys: Keys, offered: str, kind: type[SottoError], message: str) -> None:
    with pytest.raises(kind, match=message):
        keys.check_admin(Headers({"api-key": offered}))


def test_admin_keys_alone_leave_other_routes_open() -> None:
    assert Keys([], [ADMIN]).check(Headers({"api-key": WRONG})) == ""
