from dataclasses import replace

from server.monitoring.access_log import AccessRecord

PLAIN = AccessRecord(
    client="10.0.0.7",
    key="",
    method="GET",
    path="/v1/models",
    route="/v1/models",
    status=200,
    ended="completed",
    why="",
    total_s=0.0042,
    in_bytes=0,
    out_bytes=321,
)
TRANSCRIPTION = replace(
    PLAIN,
    key="key 2",
    method="POST",
    path="/v1/audio/transcriptions",
    route="/v1/audio/transcriptions",
    total_s=12.3456,
    in_bytes=96044,
    model="demo",
    audio_s=3.0,
    done_s=3.0,
    wait_s=0.0101,
    run_s=1.25,
)


def test_lines_of_requests_begin_with_the_same_fields() -> None:
    assert str(PLAIN) == "200    0.004s GET /v1/models 10.0.0.7 in 0 out 321"
    assert str(TRANSCRIPTION) == (
        "200   12.346s POST /v1/audio/transcriptions 10.0.0.7 (key 2) demo "
        "audio 3.000s wait 0.010s run 1.250s in 96044 out 321"
    )


def test_the_line_ends_with_what_went_wrong() -> None:
    rejected = replace(PLAIN, status=404, ended="rejected", why="model_not_found: The model 'x' does not exist")
    assert str(rejected).endswith(" out 321 rejected: model_not_found: The model 'x' does not exist")
    assert str(replace(TRANSCRIPTION, status=499, ended="disconnected")).endswith(" out 321 disconnected")


def test_fields_without_a_value_are_absent() -> None:
    assert PLAIN.fields() == {
        "message": "GET /v1/models 200",
        "client": "10.0.0.7",
        "method": "GET",
        "path": "/v1/models",
        "route": "/v1/models",
        "status": 200,
        "ended": "completed",
        "total_s": 0.004,
        "in_bytes": 0,
        "out_bytes": 321,
    }
    fields = TRANSCRIPTION.fields()
    assert (fields["key"], fields["model"], fields["audio_s"], fields["wait_s"], fields["run_s"]) == (
        "key 2",
        "demo",
        3.0,
        0.01,
        1.25,
    )


def test_transcripts_are_logged_only_if_given() -> None:
    assert "text" not in TRANSCRIPTION.fields()
    spoken = replace(TRANSCRIPTION, prompt="Names: Ada", text="Hello there.")
    assert str(spoken).endswith(' out 321 prompt "Names: Ada" text "Hello there."')
    assert (spoken.fields()["prompt"], spoken.fields()["text"]) == ("Names: Ada", "Hello there.")
