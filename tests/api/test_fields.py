import io

import pytest
from starlette.datastructures import UploadFile

from server.api.fields import MAX_JSON_ENTRIES, Fields
from server.errors import InvalidRequest

UPLOAD = UploadFile(io.BytesIO(b"sound"), filename="speech.wav")

Pairs = list[tuple[str, str | UploadFile]]


def refused(name: str, value: str | UploadFile, method: str, *rest: object) -> InvalidRequest:
    """What reading field `name` by a method of `Fields` raises."""
    with pytest.raises(InvalidRequest) as caught:
        getattr(Fields([(name, value)]), method)(name, *rest)
    assert caught.value.code == "invalid_value"
    assert len(caught.value.message) < 300
    caught.value.message.encode()
    return caught.value


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("x[]", "a"), ("x[]", "b")], ["a", "b"]),
        ([("x", "a"), ("x", "b")], ["a", "b"]),
        ([("x[][]", "a"), ("x[][]", "b")], ["a", "b"]),
        ([("x[0]", "a"), ("x[1]", "b")], ["a", "b"]),
        ([("extra_body[x][]", "a"), ("extra_body[x][]", "b")], ["a", "b"]),
        ([("extra_body[x]", "a"), ("extra_body[x][1]", "b")], ["a", "b"]),
        ([("x", '["a", "b"]')], ["a", "b"]),
        ([("x[]", ' [\n"a",\n"b"\n] ')], ["a", "b"]),
        ([("x[]", "a"), ("x", "b"), ("x[0]", '["c"]')], ["a", "b", "c"]),
        ([("x[]", "a"), ("x", "a"), ("x[]", "a")], ["a"]),
        ([("x[]", " a "), ("x[]", ""), ("x[]", "a")], ["a"]),
        ([("x[]", "")], []),
        ([("x", "[]")], []),
        ([("y[]", "a"), ("xx", "a"), ("x[a]", "a"), ("extra_body[xx][]", "a"), ("x.0", "a")], []),
        ([], []),
    ],
)
def test_a_list_is_read_in_every_spelling(pairs: Pairs, expected: list[str]) -> None:
    assert Fields(pairs).items("x") == expected


@pytest.mark.parametrize(
    "spelling", ["x", "x[]", "x[0]", "extra_body[x]", "extra_body[x][]", "extra_body[x[]]", "extra_body[x[]][]"]
)
def test_text_is_read_in_every_spelling(spelling: str) -> None:
    assert Fields([(spelling, " a ")]).text("x") == "a"


@pytest.mark.parametrize("spelling", ["", "X", "x.", " x", "[x]", "x[", "x]", "extra_body", "extra_body[]", "x[a]"])
def test_another_name_is_another_field(spelling: str) -> None:
    assert Fields([(spelling, "a")]).text("x") == ""


@pytest.mark.parametrize("value", ["", " \t\r\n", "null", "None", "undefined", " null "])
def test_placeholders_for_no_value_count_as_absent(value: str) -> None:
    fields = Fields([("x", "a"), ("x", value), ("y", value)])
    assert fields.text("x") == "a"
    assert fields.items("y") == []
    assert fields.flag("y", True)
    assert fields.number("y", 0.5, 0, 1) == 0.5


def test_last_of_two_values_counts() -> None:
    assert Fields([("x", "a"), ("extra_body[x]", "b")]).text("x") == "b"


@pytest.mark.parametrize(
    "value",
    ["[", '["word"', "[word]", "[1]", "[null]", '[["word"]]', '[{"a": 1}]', "[" * 200_000, "[" + "9" * 5_000],
)
def test_a_list_that_is_no_array_of_strings_is_refused(value: str) -> None:
    assert refused("x", value, "items").param == "x"


def test_a_list_has_a_maximum_length() -> None:
    entries = [f"{number}" for number in range(MAX_JSON_ENTRIES)]
    assert Fields([("x", "[" + ",".join(f'"{entry}"' for entry in entries) + "]")]).items("x") == entries
    assert "more than" in refused("x", '["",' * MAX_JSON_ENTRIES, "items").message


def test_half_characters_of_json_are_replaced() -> None:
    fields = Fields([("x", r'["\ud83d\ude00", "\ud800"]'), ("y", r'{"a": "\udfff"}')])
    assert fields.items("x") == ["\N{GRINNING FACE}", "?"]
    assert fields.members("y").text("y[a]") == "?"


@pytest.mark.parametrize(
    "pairs",
    [
        [("x[a]", "1"), ("x[b]", "true")],
        [("x[][a]", "1"), ("x[0][b]", "true")],
        [("extra_body[x][a]", "1"), ("extra_body[x][b]", "true")],
        [("x", ' {"a": 1, "b": "true", "c": null} ')],
        [("x", '{"a": 2, "b": "true"}'), ("x[a]", "1")],
        [("extra_body[x]", '{"b": "true"}'), ("x[a]", "1"), ("xx[a]", "2"), ("y", "{")],
    ],
)
def test_an_object_is_read_in_every_spelling(pairs: Pairs) -> None:
    members = Fields(pairs).members("x")
    assert (members.number("x[a]", 0, 0, 9), members.flag("x[b]", False)) == (1, True)
    assert members.text("x[c]") == ""


@pytest.mark.parametrize("value", ["{", "{}}", '{"a": }', '{"a":' * 100_000])
def test_a_value_that_is_no_object_is_refused(value: str) -> None:
    assert refused("x", value, "members").param == "x"


def test_an_invalid_member_is_named_and_its_field_is_the_param() -> None:
    members = Fields([("x[a]", "much")]).members("x")
    with pytest.raises(InvalidRequest, match=r"'x\[a\]' must be a number") as caught:
        members.number("x[a]", 0, 0, 9)
    assert caught.value.param == "x"


@pytest.mark.parametrize("value", ["{}", "auto", "", "[1]"])
def test_a_value_that_is_no_object_has_no_members(value: str) -> None:
    assert not Fields([("x", value)]).members("x")


@pytest.mark.parametrize(
    ("value", "expected"), [("true", True), ("True", True), ("1", True), ("on", True), ("no", False), ("0", False)]
)
def test_a_flag_is_read_as_people_write_it(value: str, expected: bool) -> None:
    assert Fields([("x", value)]).flag("x", not expected) is expected


@pytest.mark.parametrize("value", ["5", "5.0", " 5 ", "+5", "0.5e1"])
def test_whole_number_may_be_written_as_any(value: str) -> None:
    assert Fields([("x", value)]).whole("x", 1, 0, 9) == 5


@pytest.mark.parametrize(
    ("method", "rest", "values"),
    [
        ("flag", (False,), ["perhaps", "2", "yes please", "{}"]),
        ("number", (0, 0, 9), ["much", "nan", "inf", "-1", "10", "1e999", "9" * 10_000, "1,5", "0x1"]),
        ("whole", (0, 0, 9), ["1.5", "much", "nan", "10"]),
        ("choice", (("a", "b"), "a"), ["c", "A", "ab", "a" * 10_000, "\N{PARTY POPPER}"]),
        ("choices", (("a", "b"),), ["c", "a,b", '["a", "c"]']),
    ],
)
def test_bad_value_is_refused(method: str, rest: tuple[object, ...], values: list[str]) -> None:
    for value in values:
        assert refused("x", value, method, *rest).param == "x"


@pytest.mark.parametrize(
    ("method", "rest"),
    [
        ("text", ()),
        ("items", ()),
        ("members", ()),
        ("flag", (True,)),
        ("number", (0, 0, 1)),
        ("choice", (("a",), "a")),
    ],
)
def test_a_file_in_a_text_s_place_is_refused(method: str, rest: tuple[object, ...]) -> None:
    assert refused("x", UPLOAD, method, *rest).message == "'x' must be text, not a file."
