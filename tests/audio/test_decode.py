import io
import os
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from server.audio.decode import BLOCK_SAMPLES, open_audio
from server.errors import AudioTooLong, AudioTooShort, UndecodableAudio
from server.transcript import SAMPLE_RATE
from tests.support.bad_inputs import (
    BAD_INPUTS,
    DATA,
    Outcome,
    chunk,
    cut,
    encode,
    ffconcat,
    m3u8,
    silence,
    speech,
    sphere,
    wav,
)
from tests.support.reference_audio import decode_audio

Samples = NDArray[np.int16]

LEVEL = 8_000  # of the sines: a quarter of full scale
RECORDINGS = """
    en_00.wav en_11.wav en_12.wav en_13.wav en_14.mp3 en_15.m4a en_16.ogg en_17.webm en_18.flac en_19.mp4
    human_00.wav noise_45s.ogg two_minutes.mp3
""".split()
UNCOMPRESSED = [
    ("wav", "pcm_u8", 16_000, "mono"),
    ("wav", "pcm_s16le", 8_000, "mono"),
    ("wav", "pcm_s16le", 11_025, "mono"),
    ("wav", "pcm_s16le", 22_050, "stereo"),
    ("wav", "pcm_s24le", 44_100, "stereo"),
    ("wav", "pcm_s32le", 48_000, "mono"),
    ("wav", "pcm_f32le", 96_000, "stereo"),
    ("wav", "pcm_f64le", 192_000, "mono"),
    ("wav", "pcm_s16le", 48_000, "5.1"),
    ("wav", "pcm_s16le", 48_000, "7.1"),
    ("wav", "pcm_alaw", 8_000, "mono"),
    ("w64", "pcm_s16le", 16_000, "mono"),
    ("aiff", "pcm_s16be", 44_100, "stereo"),
    ("au", "pcm_s16be", 16_000, "mono"),
    ("caf", "pcm_s16be", 16_000, "mono"),
    ("flac", "flac", 44_100, "stereo"),
    ("ogg", "flac", 48_000, "mono"),
    ("mov", "alac", 44_100, "mono"),
    ("wv", "wavpack", 44_100, "mono"),
]
COMPRESSED = [  # ... and by how many milliseconds the length may be off
    ("mp3", "libmp3lame", 44_100, 1),
    ("mp3", "libmp3lame", 16_000, 1),
    ("mp2", "mp2", 48_000, 30),
    ("ipod", "aac", 44_100, 30),
    ("mp4", "aac", 48_000, 30),
    ("3gp", "aac", 44_100, 30),
    ("adts", "aac", 44_100, 60),
    ("latm", "aac", 44_100, 60),
    ("mpegts", "aac", 44_100, 60),
    ("mpeg", "mp2", 44_100, 30),
    ("matroska", "aac", 44_100, 30),
    ("webm", "libopus", 48_000, 10),
    ("ogg", "libopus", 48_000, 10),
    ("avi", "libmp3lame", 44_100, 60),
    ("flv", "aac", 44_100, 60),
    ("asf", "wmav2", 44_100, 60),
    ("ac3", "ac3", 48_000, 60),
]
if "libopencore_amrnb" in av.codecs_available:  # PyAV 19 reads AMR, and can't write it
    COMPRESSED.append(("amr", "libopencore_amrnb", 8_000, 30))


def decode(data: bytes, limit_s: float = 3600) -> Samples:
    with open_audio(io.BytesIO(data), limit_s=limit_s) as audio:
        return np.concatenate(list(audio))


def sine(seconds: float, frequency: int = 440) -> Samples:
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    wave: NDArray[np.float64] = LEVEL * np.sin(2 * np.pi * frequency * times)
    return np.rint(wave).astype(np.int16)


def spectrum(samples: Samples) -> NDArray[np.float64]:
    """Amplitude by frequency, one bin for each Hz: of the second after the first tenth."""
    second = samples[SAMPLE_RATE // 10 :][:SAMPLE_RATE]
    return np.abs(np.fft.rfft(second)) / (SAMPLE_RATE / 2)


def likeness(samples: Samples) -> float:
    """How well the best-fitting stretch of `samples` correlates with the speech, 1 being a scaled copy."""
    wanted = speech().astype(np.float64)
    decoded = np.concatenate((samples, silence(1))).astype(np.float64)
    size = len(decoded) + len(wanted)
    products = np.fft.irfft(np.fft.rfft(decoded, size) * np.conj(np.fft.rfft(wanted, size)), size)
    shift = int(products[: len(decoded)].argmax())
    stretch = decoded[shift : shift + len(wanted)]
    return float(products[shift] / (np.linalg.norm(stretch) * np.linalg.norm(wanted)))


@pytest.mark.parametrize("name", RECORDINGS)
def test_samples_are_those_of_faster_whisper(name: str) -> None:
    expected = (decode_audio(DATA / name) * 32768).astype(np.int16)
    np.testing.assert_array_equal(decode((DATA / name).read_bytes()), expected)


@pytest.mark.parametrize(("container", "codec", "rate", "layout"), UNCOMPRESSED)
def test_lossless_sound_keeps_its_length_pitch_and_level(
    container: str, codec: str, rate: int, layout: str
) -> None:
    rows = np.tile(sine(1.5), (av.AudioLayout(layout).nb_channels, 1))
    decoded = decode(encode(rows, container, codec, rate=rate, layout=layout))
    assert decoded.dtype == np.int16
    assert abs(len(decoded) - 1.5 * SAMPLE_RATE) <= 1
    amplitudes = spectrum(decoded)
    assert amplitudes.argmax() == 440
    assert amplitudes[440] == pytest.approx(LEVEL, rel=0.03)
    assert amplitudes[1:430].max() < LEVEL / 100
    assert amplitudes[450:].max() < LEVEL / 100


@pytest.mark.parametrize(("container", "codec", "rate", "off_ms"), COMPRESSED)
def test_compressed_sound_keeps_its_pitch_level_and_about_its_length(
    container: str, codec: str, rate: int, off_ms: int
) -> None:
    bit_rate = 64_000 if codec == "wmav2" else None  # it has no default
    decoded = decode(encode(sine(1.5), container, codec, rate=rate, bit_rate=bit_rate))
    assert len(decoded) / SAMPLE_RATE * 1000 == pytest.approx(1500, abs=off_ms)
    amplitudes = spectrum(decoded)
    assert amplitudes.argmax() == 440
    assert amplitudes[440] == pytest.approx(LEVEL, rel=0.25)


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000, 192_000])
def test_the_end_of_a_file_is_not_lost(rate: int) -> None:
    quiet_then_loud = np.concatenate((silence(1), sine(0.02)))
    decoded = decode(encode(quiet_then_loud, rate=rate))
    assert abs(len(decoded) - len(quiet_then_loud)) <= 1
    assert np.abs(decoded[-160:]).max() > LEVEL * 0.9


def test_two_channels_are_averaged() -> None:
    rows = np.stack((sine(1.5, 300), sine(1.5, 500)))
    amplitudes = spectrum(decode(encode(rows, rate=44_100, layout="stereo")))
    assert amplitudes[300] == pytest.approx(LEVEL / 2, rel=0.02)
    assert amplitudes[500] == pytest.approx(LEVEL / 2, rel=0.02)


def test_the_centre_channel_of_a_film_is_the_loudest() -> None:
    rows = np.stack([sine(1.5, 300 + 100 * number) for number in range(6)])
    left, right, centre, _low, back_left, back_right = spectrum(decode(encode(rows, layout="5.1")))[300:900:100]
    assert centre > left > back_left > LEVEL / 20
    assert [left, back_left] == pytest.approx([right, back_right], rel=0.02)


@pytest.mark.parametrize("container", ["mp4", "mpegts", "avi", "matroska"])
def test_a_video_gives_its_sound(container: str) -> None:
    assert likeness(decode(encode(None, container, "libmp3lame", rate=44_100, pictures=True))) > 0.9


def test_nist_sphere_gives_its_samples_as_they_are() -> None:
    np.testing.assert_array_equal(decode(sphere()), speech())
    np.testing.assert_array_equal(decode(sphere(speech().astype(">i2").tobytes(), order="10")), speech())


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_bad_inputs(name: str) -> None:
    expected = BAD_INPUTS[name]
    outcome: Outcome
    try:
        decoded = decode(expected.build())
        outcome = "ok"
    except AudioTooShort:
        outcome = "too_short"
    except UndecodableAudio:
        outcome = "undecodable"
    assert outcome == expected.outcome
    if outcome == "ok":
        assert likeness(decoded) > 0.9


LATIN_1 = "Müller, Ö".encode("latin-1")


def latin_1_wav() -> bytes:
    return wav(before=chunk(b"LIST", b"INFO" + chunk(b"INAM", LATIN_1 + b"\0")))


def latin_1_mp3() -> bytes:
    """With an ID3v2.4 title that says it is UTF-8."""
    frame = b"TIT2" + struct.pack(">IH", 1 + len(LATIN_1), 0) + b"\3" + LATIN_1
    return b"ID3\4\0\0" + struct.pack(">I", len(frame)) + frame + encode(None, "mp3", "libmp3lame")


def latin_1_in(container: str, codec: str) -> bytes:
    """By a writer that puts UTF-8 there; the track's tags, in ogg."""
    placeholder = "x" * len(LATIN_1)
    return encode(None, container, codec, rate=48_000, tags={"title": placeholder}).replace(
        placeholder.encode(), LATIN_1
    )


@pytest.mark.parametrize(
    "build",
    [
        latin_1_wav,
        latin_1_mp3,
        partial(latin_1_in, "flac", "flac"),
        partial(latin_1_in, "matroska", "aac"),
        partial(latin_1_in, "mp4", "aac"),
    ],
    ids=["wav", "mp3", "flac", "matroska", "mp4"],
)
def test_tags_that_are_not_utf_8_cost_nothing(build: Callable[[], bytes]) -> None:
    data = build()
    assert LATIN_1 in data
    assert likeness(decode(data)) > 0.9


@pytest.mark.parametrize(
    ("container", "codec"),
    [("ipod", "aac"), ("adts", "aac"), ("mpegts", "aac"), ("flac", "flac"), ("mp3", "libmp3lame")],
)
def test_damage_in_the_middle_costs_only_itself(container: str, codec: str) -> None:
    sound = np.tile(speech(), 4)
    data = bytearray(encode(sound, container, codec, rate=48_000))
    third = len(data) // 3
    data[third : third + 300] = np.random.default_rng(0).bytes(300)
    decoded = decode(bytes(data))
    assert len(decoded) > len(sound) - 0.2 * SAMPLE_RATE
    assert likeness(decoded[-3 * SAMPLE_RATE :]) > 0.9


@pytest.mark.parametrize(
    ("build", "detail"),
    [
        (BAD_INPUTS["silent_film.mp4"].build, "It contains no audio stream."),
        (BAD_INPUTS["header_only.wav"].build, "It contains no audio."),
        (BAD_INPUTS["unlisted_codec.mka"].build, "Its audio codec is not supported."),
        (BAD_INPUTS["one_hertz.wav"].build, "Its sample rate of 1 Hz is not supported."),
        (BAD_INPUTS["text.mp3"].build, "its format is not supported."),
    ],
)
def test_the_error_says_what_is_wrong(build: Callable[[], bytes], detail: str) -> None:
    with pytest.raises(UndecodableAudio) as caught:
        decode(build())
    assert str(caught.value).endswith(detail)


def test_a_playlist_that_ffmpeg_would_follow_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret.wav").write_bytes(wav())
    monkeypatch.chdir(tmp_path)
    playlist = ffconcat("secret.wav")
    with av.open(io.BytesIO(playlist), mode="r") as container:  # the danger is real
        assert sum(frame.samples for frame in container.decode(audio=0)) == len(speech())
    with pytest.raises(UndecodableAudio):
        decode(playlist)


@pytest.mark.parametrize("write", [ffconcat, m3u8])
@pytest.mark.parametrize("prefix", ["", "file:", "file://", "subfile,,start,0,end,9,,:", "concat:", "async:"])
@pytest.mark.timeout(100)
def test_a_playlist_opens_nothing(write: Callable[[str], bytes], prefix: str, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"  # to open it for reading would block: nobody ever writes
    os.mkfifo(pipe)
    with pytest.raises(UndecodableAudio):
        decode(write(f"{prefix}{pipe}"))


@pytest.mark.parametrize("name", ["en_%02d.png", "x.m3u8", "x.txt", "x.mp3", "http://127.0.0.1:9/x.wav"])
def test_only_the_content_says_what_a_file_is(name: str) -> None:
    class Named(io.BytesIO):
        pass

    file = Named(wav())
    file.name = name
    with open_audio(file, limit_s=9) as audio:
        np.testing.assert_array_equal(np.concatenate(list(audio)), speech())


def test_a_file_is_read_from_its_start(tmp_path: Path) -> None:
    with (tmp_path / "speech.wav").open("w+b") as file:
        file.write(wav())
        with open_audio(file, limit_s=9) as audio:
            assert sum(map(len, audio)) == len(speech())


def test_the_first_of_two_equal_tracks_is_taken_alone() -> None:
    film = encode(None, "mp4", "aac")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output, av.open(io.BytesIO(film), "r") as source:
        packets = [packet for packet in source.demux(audio=0) if packet.dts is not None]
        tracks = [output.add_stream_from_template(source.streams.audio[0]) for _ in range(2)]
        for packet in packets:
            for track in tracks:
                packet.stream = track
                output.mux(packet)
    np.testing.assert_array_equal(decode(buffer.getvalue()), decode(film))


@pytest.mark.parametrize(("seconds", "sizes_s"), [(25, [10, 10, 5]), (20, [10, 10]), (0.1, [0.1])])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_blocks_have_one_size_but_the_last(seconds: float, sizes_s: list[float], rate: int) -> None:
    with open_audio(io.BytesIO(encode(sine(seconds), "flac", "flac", rate=rate)), limit_s=99) as audio:
        assert [len(block) for block in audio] == [round(size_s * SAMPLE_RATE) for size_s in sizes_s]


def test_blocks_have_one_size_where_the_form_changes() -> None:
    two_forms = encode(sine(13), "mp3", "libmp3lame", rate=44_100) + encode(sine(14), "mp3", "libmp3lame")
    with open_audio(io.BytesIO(two_forms), limit_s=99) as audio:
        sizes = [len(block) for block in audio]
    assert sizes[:2] == [BLOCK_SAMPLES, BLOCK_SAMPLES]
    assert sum(sizes) == pytest.approx(27 * SAMPLE_RATE, abs=0.1 * SAMPLE_RATE)


def test_samples_are_counted_as_they_come() -> None:
    with open_audio(io.BytesIO(wav(silence(25).tobytes())), limit_s=99) as audio:
        assert audio.samples == 0
        assert audio.duration_hint_s == 25.0
        assert len(next(audio)) == BLOCK_SAMPLES
        assert audio.samples == BLOCK_SAMPLES
        assert sum(map(len, audio)) == 15 * SAMPLE_RATE
        assert audio.samples == 25 * SAMPLE_RATE


def test_the_hint_may_lie_and_the_count_does_not() -> None:
    whole = encode(np.tile(speech(), 8), "mp3", "libmp3lame")
    with open_audio(io.BytesIO(cut(whole, 0.5)), limit_s=99) as audio:
        counted_s = sum(map(len, audio)) / SAMPLE_RATE
    assert audio.duration_hint_s == pytest.approx(8 * len(speech()) / SAMPLE_RATE, abs=0.1)
    assert counted_s == pytest.approx(4 * len(speech()) / SAMPLE_RATE, abs=0.1)


def test_as_long_as_the_limit_is_not_too_long() -> None:
    assert len(decode(wav(silence(12).tobytes()), limit_s=12)) == 12 * SAMPLE_RATE


def test_an_hour_of_nothing_is_stopped_at_the_limit() -> None:
    bomb = encode(silence(3600), "flac", "flac")
    assert len(bomb) < 1_000_000
    audio = open_audio(io.BytesIO(bomb), limit_s=25)
    assert [len(next(audio)) for _ in range(2)] == [BLOCK_SAMPLES, BLOCK_SAMPLES]
    with pytest.raises(AudioTooLong, match="25 seconds"):
        next(audio)
    audio.close()


def test_a_block_beyond_the_limit_is_never_given() -> None:
    with open_audio(io.BytesIO(wav()), limit_s=2) as audio, pytest.raises(AudioTooLong):
        next(audio)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_a_tenth_of_a_second_is_enough(rate: int) -> None:
    assert len(decode(wav(bytes(rate // 10 * 2), rate=rate))) == SAMPLE_RATE // 10
    with pytest.raises(AudioTooShort):
        decode(wav(bytes(rate // 10 * 2 - 8), rate=rate))


def test_closing_ends_the_iteration_and_leaves_the_file_open() -> None:
    file = io.BytesIO(wav(silence(25).tobytes()))
    audio = open_audio(file, limit_s=99)
    next(audio)
    audio.close()
    assert list(audio) == []
    audio.close()
    assert not file.closed


def test_a_file_that_fails_to_read_is_no_fault_of_the_caller() -> None:
    class Failing(io.BytesIO):
        fails = False

        def read(self, size: int | None = -1, /) -> bytes:
            if self.fails:
                raise OSError("the disk is gone")
            return super().read(size)

    file = Failing(wav(silence(25).tobytes()))
    with open_audio(file, limit_s=99) as audio:
        next(audio)
        file.fails = True
        with pytest.raises(OSError, match="the disk is gone"):
            next(audio)
