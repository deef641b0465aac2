"""Guesses of keys, by a clock that only the test moves."""

from ipaddress import ip_network

import pytest
from starlette.datastructures import Headers

from server.api.gate import guess_limit
from server.api.gate.guess_limit import GUESS_S, GUESSES, ClientKeys, GuessLimit
from server.api.gate.keys import Keys
from server.errors import PermissionDenied, RateLimited, SottoError, Unauthorized

KEY, OTHER, ADMIN = "desk-key-0123456789abcdef", "shop-key-0123456789abcdef", "root-key-0123456789abcdef"
WRONG = "wrong-key-0123456789abcdef"
KEYS = Keys([f"desk {KEY}", f"shop {OTHER}"], [f"root {ADMIN}"])
STRANGER = "192.0.2.7"


class Clock:
    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limit(clock: Clock) -> GuessLimit:
    return GuessLimit([ip_network("10.0.0.0/8")], now_s=clock)


def outcome(limit: GuessLimit, key: str, address: str = STRANGER) -> str | int:
    """The name of the key that the gate accepts, or the status of its error."""
    try:
        return ClientKeys(KEYS, limit, address).check(Headers({"api-key": key}))
    except SottoError as error:
        return error.status


def exhaust(limit: GuessLimit, address: str = STRANGER) -> None:
    assert [outcome(limit, WRONG, address) for _ in range(GUESSES)] == [401] * GUESSES


def test_after_some_wrong_keys_no_key_is_judged_for_a_while(limit: GuessLimit, clock: Clock) -> None:
    exhaust(limit)
    assert [outcome(limit, key) for key in (WRONG, KEY, ADMIN)] == [429] * 3
    clock.s += GUESS_S - 0.1
    assert outcome(limit, KEY) == 429
    clock.s += 0.2
    assert outcome(limit, KEY) == "desk"


def test_the_answer_says_how_long(limit: GuessLimit, clock: Clock) -> None:
    exhaust(limit)
    clock.s += 1.5
    with pytest.raises(RateLimited, match=r"Too many incorrect API keys .* try again in 4s") as caught:
        ClientKeys(KEYS, limit, STRANGER).check(Headers({"api-key": KEY}))
    assert caught.value.retry_after_s == 4


def test_guesses_come_back_one_by_one_and_refused_ones_cost_nothing(limit: GuessLimit, clock: Clock) -> None:
    exhaust(limit)
    for _ in range(3):
        assert [outcome(limit, WRONG) for _ in range(50)] == [429] * 50
        clock.s += GUESS_S
        assert [outcome(limit, WRONG) for _ in range(2)] == [401, 429]
    clock.s += GUESSES * GUESS_S
    exhaust(limit)


def test_who_has_a_key_is_not_kept_out_by_a_stranger_at_the_same_address(limit: GuessLimit) -> None:
    assert outcome(limit, KEY) == "desk"
    exhaust(limit)
    assert [outcome(limit, key) for key in (KEY, OTHER, WRONG)] == ["desk", 429, 429]


def test_other_addresses_are_not_concerned(limit: GuessLimit) -> None:
    exhaust(limit)
    assert outcome(limit, KEY, "192.0.2.8") == "desk"
    exhaust(limit, "192.0.2.9")


def test_addresses_of_one_ipv6_subnet_are_one_client(limit: GuessLimit) -> None:
    exhaust(limit, "2001:db8::1")
    assert outcome(limit, KEY, "2001:db8::2") == 429
    assert outcome(limit, KEY, "2001:db8:0:1::2") == "desk"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.1.2.3"])
def test_this_machine_and_proxies_have_no_limit(limit: GuessLimit, address: str) -> None:
    for _ in range(3):
        exhaust(limit, address)
    assert outcome(limit, KEY, address) == "desk"


def test_a_request_without_a_key_is_no_guess(limit: GuessLimit) -> None:
    assert [outcome(limit, "") for _ in range(3 * GUESSES)] == [401] * 3 * GUESSES
    assert outcome(limit, KEY) == "desk"


def test_admin_keys_can_not_be_guessed_faster_where_others_need_none(limit: GuessLimit) -> None:
    client = ClientKeys(Keys([], [f"root {ADMIN}"]), limit, STRANGER)
    for _ in range(GUESSES):
        assert client.check(Headers({"api-key": WRONG})) == ""  # any key will do: it is no guess
    for _ in range(GUESSES):
        with pytest.raises(Unauthorized):
            client.check_admin(Headers({"api-key": WRONG}))
    with pytest.raises(RateLimited):
        client.check_admin(Headers({"api-key": ADMIN}))
    assert client.check(Headers({"api-key": WRONG})) == ""


def test_an_ordinary_key_where_an_admin_key_is_needed_is_no_guess(limit: GuessLimit) -> None:
    client = ClientKeys(KEYS, limit, STRANGER)
    for _ in range(2 * GUESSES):
        with pytest.raises(PermissionDenied):
            client.check_admin(Headers({"api-key": KEY}))
    assert outcome(limit, OTHER) == "shop"


def test_memory_is_bounded_and_guesses_displace_no_valid_keys(
    limit: GuessLimit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guess_limit, "CLIENTS", 3)
    assert outcome(limit, KEY) == "desk"
    exhaust(limit)
    exhaust(limit, "198.51.100.1")
    exhaust(limit, "198.51.100.2")
    assert outcome(limit, OTHER) == 429
    exhaust(limit, "198.51.100.3")
    assert outcome(limit, OTHER) == "shop"  # the guesses from this address are forgotten, its keys are not
    exhaust(limit)
    assert outcome(limit, KEY) == "desk"
