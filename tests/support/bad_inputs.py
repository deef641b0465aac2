"""Odd, broken and hostile uploads, by file name, with what must become of each. Built when asked for.

Those that are "ok" all say `SPEECH_TEXT`, whole; some add silence behind it.
"""

import io
import struct
import wave
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from server.transcript import SAMPLE_RATE

DATA = Path(__file__).parent.parent / "data"
SPEECH_TEXT = "The party ends at two o'clock."
UNKNOWN_SIZE = 0xFFFFFFFF  # what a program writes that streams a WAV and never comes back to its header

Samples = NDArray[np.int16]
Outcome = Literal["ok", "too_short", "undecodable"]


@dataclass(frozen=True, slots=True)
class BadInput:
    """`build` gives the file's bytes."""

    outcome: Outcome
    build: Callable[[], bytes]


@cache
def speech() -> Samples:
    """2.4 s at 16 kHz, mono: `SPEECH_TEXT`."""
    with wave.open(str(DATA / "en_00.wav")) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * SAMPLE_RATE), np.int16)


def wav(
    data: bytes | None = None,
    *,
    channels: int = 1,
    rate: int = SAMPLE_RATE,
    bits: int = 16,
    data_size: int | None = None,
    before: bytes = b"",
) -> bytes:
    """A WAV written by hand, so that each field of its header may lie; the speech if no `data` is given.

    `before` is put between the chunks `fmt ` and `data`.
    """
    data = speech().tobytes() if data is None else data
    size = len(data) if data_size is None else data_size
    frame_bytes = channels * bits // 8
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * frame_bytes % 2**32, frame_bytes, bits)
    body = b"WAVE" + chunk(b"fmt ", form) + before + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", min(len(body) - len(data) + size, UNKNOWN_SIZE)) + body


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content


def id3(content_bytes: int) -> bytes:
    """An ID3v2.4 tag of zeros, as long as one with a cover picture."""
    size = bytes(content_bytes >> shift & 127 for shift in (21, 14, 7, 0))
    return b"ID3\x04\0\0" + size + bytes(content_bytes)


def encode(
    samples: Samples | None = None,
    container: str = "wav",
    codec: str = "pcm_s16le",
    *,
    rate: int = SAMPLE_RATE,
    layout: str = "mono",
    bit_rate: int | None = None,
    pictures: bool = False,
    tags: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
) -> bytes:
    """16 kHz samples in any container and codec: a mono line, or one row per channel of `layout`; else the speech.

    `pictures` puts a short video track before the sound.
    """
    line = speech() if samples is None else samples
    rows = np.atleast_2d(line)
    source = AudioFrame.from_ndarray(
        np.ascontiguousarray(rows.T).reshape(1, -1), "s16", "mono" if len(rows) == 1 else layout
    )
    source.sample_rate = SAMPLE_RATE
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, options=options or {}) as output:
        output.metadata.update(tags or {})
        video = film(output) if pictures else None
        track = output.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(track, AudioStream)
        if bit_rate:
            track.bit_rate = bit_rate
        track.codec_context.open()
        if video:
            show(output, video)
        write(output, track, source)
    return buffer.getvalue()


def write(output: OutputContainer, track: AudioStream, source: AudioFrame) -> None:
    context = track.codec_context
    resampler = AudioResampler(context.format, context.layout, context.sample_rate)
    fifo = AudioFifo()
    for frame in [*resampler.resample(source), *resampler.resample(None)]:
        frame.pts = None
        fifo.write(frame)
    size = context.frame_size or 1024
    pts = 0
    while piece := fifo.read(size, partial=True):
        piece.pts = pts
        piece.time_base = Fraction(1, context.sample_rate)
        pts += piece.samples
        output.mux(track.encode(piece))
    output.mux(track.encode(None))


@cache
def days_of_silence(days: int) -> bytes:
    """A FLAC of 23 kB a day."""
    rate, frame = 1_000, 65_535
    samples = AudioFrame.from_ndarray(np.zeros((1, frame), np.int16), "s16", "mono")
    samples.sample_rate = rate
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="flac") as output:
        track = output.add_stream("flac", rate=rate, layout="mono", options={"frame_size": str(frame)})
        for start in range(0, days * 86_400 * rate, frame):
            samples.pts = start
            output.mux(track.encode(samples))
        output.mux(track.encode(None))
    return buffer.getvalue()


def film(output: OutputContainer) -> VideoStream:
    video = output.add_stream("mpeg4", rate=10)
    assert isinstance(video, VideoStream)
    video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
    return video


def show(output: OutputContainer, video: VideoStream, seconds: int = 2) -> None:
    for number in range(seconds * 10):
        picture = VideoFrame.from_ndarray(np.full((48, 64, 3), number, np.uint8), "rgb24")
        picture.pts = number
        picture.time_base = Fraction(1, 10)
        output.mux(video.encode(picture))
    output.mux(video.encode(None))


def sphere(
    data: bytes | None = None,
    *,
    order: str = "01",
    sample_bytes: int = 2,
    coding: str = "pcm",
    channels: int = 1,
    rate: int = SAMPLE_RATE,
    head_bytes: int = 1024,
    more: str = "",
) -> bytes:
    """NIST SPHERE, as speech corpora have it. `order` of a sample's bytes: 01 is little-endian, 10 big-endian."""
    data = speech().tobytes() if data is None else data
    lines = [
        f"NIST_1A\n{head_bytes:7}\ndatabase_id -s5 TESTS\nutterance_id -s8 tests_00",
        f"channel_count -i {channels}\nsample_count -i {len(data) // sample_bytes // channels}",
        f"sample_rate -i {rate}\nsample_n_bytes -i {sample_bytes}\nsample_sig_bits -i {8 * sample_bytes}",
        f"sample_byte_format -s{len(order)} {order}\nsample_coding -s{len(coding)} {coding}\n{more}end_head\n",
    ]
    return "\n".join(lines).encode().ljust(head_bytes) + data


def silent_film() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        show(output, film(output))
    return buffer.getvalue()


def subtitled_film() -> bytes:
    """The speech, and a track of subtitles."""
    buffer = io.BytesIO()
    sound = io.BytesIO(encode(None, "matroska", "aac"))
    with av.open(buffer, "w", format="matroska") as output, av.open(sound, "r") as source:
        track = output.add_stream_from_template(source.streams.audio[0])
        text = output.add_mux_stream("subrip")
        subtitle = Packet(SPEECH_TEXT.encode())
        subtitle.stream, subtitle.time_base = text, Fraction(1, 1000)
        subtitle.pts, subtitle.dts, subtitle.duration = 0, 0, 2000
        output.start_encoding()
        output.mux(subtitle)
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = track
                output.mux(packet)
    return buffer.getvalue()


def trailing_silence(container: str, codec: str, options: dict[str, str] | None = None) -> bytes:
    """The speech and four seconds of silence: the end of the file may go and the words are whole."""
    return encode(np.concatenate((speech(), silence(4))), container, codec, options=options)


def cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def damaged_mp3() -> bytes:
    data = bytearray(trailing_silence("mp3", "libmp3lame"))
    middle = len(data) * 2 // 3
    data[middle : middle + 700] = noise(700)
    return bytes(data)


def noise(count: int) -> bytes:
    return np.random.default_rng(1).bytes(count)


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("speech.wav", wav())
    return buffer.getvalue()


def picture() -> bytes:
    def part(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(8 * 9))
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", rows) + part(b"IEND", b"")


def m3u8(target: str) -> bytes:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n".encode()


def ffconcat(target: str) -> bytes:
    return f"ffconcat version 1.0\nfile {target}\n".encode()


def sdp() -> bytes:
    return b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 50040 RTP/AVP 0\r\n"


def mpd(target: str) -> bytes:
    return (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
        f'<Representation id="1" mimeType="audio/mp4"><BaseURL>{target}</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>"
    ).encode()


def _ok(build: Callable[[], bytes]) -> BadInput:
    return BadInput("ok", build)


def _undecodable(build: Callable[[], bytes]) -> BadInput:
    return BadInput("undecodable", build)


FRAGMENTS = {"movflags": "empty_moov", "frag_duration": "500000"}  # as a recorder writes it, index by index
LOCAL_FILE = str((DATA / "en_00.wav").resolve())

BAD_INPUTS: dict[str, BadInput] = {
    # No sound in it.
    "empty.wav": _undecodable(bytes),
    "one_byte.mp3": _undecodable(lambda: b"\xff"),
    "text.mp3": _undecodable(lambda: b"This is no audio at all.\n" * 400),
    "page.html": _undecodable(lambda: b"<!doctype html><title>404</title><p>Not found</p>" * 20),
    "answer.json": _undecodable(lambda: b'{"error": {"message": "expired"}}'),
    "picture.png": _undecodable(picture),
    "archive.zip": _undecodable(archive),
    "random.mp3": _undecodable(lambda: noise(65_536)),
    "zeros.wav": _undecodable(lambda: bytes(65_536)),
    "only_id3.mp3": _undecodable(lambda: id3(2_000)),
    "header_only.wav": _undecodable(lambda: wav(b"")),
    "riff_only.wav": _undecodable(lambda: b"RIFF\x24\0\0\0WAVE"),
    "silent_film.mp4": _undecodable(silent_film),
    "truncated.m4a": _undecodable(lambda: cut(encode(None, "ipod", "aac"), 0.7)),  # its index was at the end
    "unlisted.nut": _undecodable(lambda: encode(None, "nut")),
    "unlisted_codec.mka": _undecodable(lambda: encode(None, "matroska", "tta")),
    # Headers that lie.
    "zero_channels.wav": _undecodable(lambda: wav(channels=0)),
    "zero_hertz.wav": _undecodable(lambda: wav(rate=0)),
    "one_hertz.wav": _undecodable(lambda: wav(rate=1)),  # would be eleven hours from 78 kB
    "two_gigahertz.wav": _undecodable(lambda: wav(rate=2_000_000_000)),
    "many_channels.wav": _undecodable(lambda: wav(channels=30_000)),
    "long_header.sph": _undecodable(lambda: sphere(head_bytes=1_000_000, more="note -s9 123456789\n" * 40_000)),
    "no_header_size.sph": _undecodable(lambda: sphere().replace(b"   1024\n", b"-1\n     \n")),
    "huge_channels.sph": _undecodable(lambda: sphere().replace(b"count -i 1\n", b"count -i 999999999\n")),
    "endless_header.sph": _undecodable(lambda: sphere().replace(b"end_head", b"no_end__")),
    "shorten.sph": _undecodable(lambda: sphere(coding="pcm,embedded-shorten-v2.00")),
    # Files that name other files.
    "playlist.m3u8": _undecodable(lambda: m3u8(f"file://{LOCAL_FILE}")),
    "playlist_path.m3u8": _undecodable(lambda: m3u8(LOCAL_FILE)),
    "list.ffconcat": _undecodable(lambda: ffconcat(f"file://{LOCAL_FILE}")),
    "list_path.ffconcat": _undecodable(lambda: ffconcat(LOCAL_FILE)),
    "session.sdp": _undecodable(sdp),
    "manifest.mpd": _undecodable(lambda: mpd(f"file://{LOCAL_FILE}")),
    # Too little.
    "fifty_ms.wav": BadInput("too_short", lambda: wav(speech()[:800].tobytes())),
    "one_sample.wav": BadInput("too_short", lambda: wav(b"\0\1")),
    # Odd but good.
    "5_1.wav": _ok(lambda: encode(None, layout="5.1")),
    "5_1.m4a": _ok(lambda: encode(None, "ipod", "aac", rate=48_000, layout="5.1")),
    "192_khz.wav": _ok(lambda: encode(None, rate=192_000, layout="stereo")),
    "8_bit.wav": _ok(lambda: encode(None, codec="pcm_u8")),
    "24_bit.wav": _ok(lambda: encode(None, codec="pcm_s24le", rate=44_100)),
    "float64.wav": _ok(lambda: encode(None, codec="pcm_f64le")),
    "timit.wav": _ok(sphere),
    "big_endian.sph": _ok(lambda: sphere(speech().astype(">i2").tobytes(), order="10")),
    "stereo.sph": _ok(lambda: sphere(np.repeat(speech(), 2).tobytes(), channels=2)),
    "mulaw.wav": _ok(lambda: encode(None, codec="pcm_mulaw")),
    "unknown_sizes.wav": _ok(lambda: wav(data_size=UNKNOWN_SIZE)),
    "truncated.wav": _ok(lambda: wav(data_size=1_000_000)),
    "odd_byte.wav": _ok(lambda: wav(speech().tobytes() + b"\1")),
    "garbage_chunks.wav": _ok(lambda: wav(before=chunk(b"junk", noise(998)) + chunk(b"\xff\0\xfe ", noise(64)))),
    "garbage_after.wav": _ok(lambda: wav() + noise(3_000)),
    "truncated.mp3": _ok(lambda: cut(trailing_silence("mp3", "libmp3lame"), 0.7)),
    "damaged.mp3": _ok(damaged_mp3),
    "big_cover.mp3": _ok(lambda: id3(1_500_000) + encode(None, "mp3", "libmp3lame")),
    "subtitled_film.mkv": _ok(subtitled_film),
    "two_forms.mp3": _ok(
        lambda: (
            encode(None, "mp3", "libmp3lame", rate=44_100, layout="stereo")
            + encode(silence(1), "mp3", "libmp3lame", rate=22_050)
        )
    ),
    "truncated.ogg": _ok(lambda: cut(trailing_silence("ogg", "libopus"), 0.98)),
    "truncated_live.m4a": _ok(lambda: cut(trailing_silence("ipod", "aac", FRAGMENTS), 0.97)),
    "film.mp4": _ok(lambda: encode(None, "mp4", "aac", pictures=True)),
    "film.ts": _ok(lambda: encode(None, "mpegts", "aac", pictures=True)),
    "opus_named.wav": _ok(lambda: encode(None, "webm", "libopus", rate=48_000)),
    "odd_tags.flac": _ok(lambda: encode(None, "flac", "flac", tags={"title": "x" * 5_000, "artist": "\u202e\0"})),
}
