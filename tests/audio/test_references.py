"""Files that name other files or addresses: nothing but the upload itself is ever opened.

Held here by what FFmpeg is told alone, in this process; what a media worker could do is held by `test_workers`.
"""

import io
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from server.audio.decode import open_audio
from server.errors import UndecodableAudio
from tests.support.bad_inputs import chunk, encode, ffconcat, id3, m3u8, mpd, silence, speech, wav

pytestmark = pytest.mark.timeout(100)  # to open a pipe that nobody writes to would block

BOXES = {b"moov", b"trak", b"mdia", b"minf", b"dinf"}


def movie(target: str) -> bytes:
    """A QuickTime film whose sound is said to be in another file."""
    return with_reference(encode(silence(1), "mov", "pcm_s16le"), alias(target))


def with_reference(data: bytes, reference: bytes) -> bytes:
    """The same boxes with `reference` in place of the track's data reference."""
    out, place = b"", 0
    while place < len(data):
        size, name = struct.unpack_from(">I4s", data, place)
        size = size or len(data) - place
        content = data[place + 8 : place + size]
        if name in BOXES:
            content = with_reference(content, reference)
        elif name == b"dref":
            content = struct.pack(">II", 0, 1) + reference
        out += struct.pack(">I4s", len(content) + 8, name) + content
        place += size
    return out


def alias(target: str) -> bytes:
    """QuickTime's way to name a file: a Macintosh alias record with its path."""
    path = target.encode()
    path += bytes(len(path) % 2)
    record = bytes(10 + 1 + 27 + 12 + 1 + 63 + 16) + struct.pack(">HH", 0, 0) + bytes(16)
    record += struct.pack(">HH", 2, len(path)) + path + struct.pack(">HH", 0xFFFF, 0)
    return struct.pack(">I4sI", len(record) + 12, b"alis", 0) + record


def cover(target: str) -> bytes:
    """An ID3 tag whose picture is to be fetched."""
    picture = b"\0-->\0\3\0" + target.encode()
    frame = b"APIC" + struct.pack(">I", len(picture)) + b"\0\0" + picture
    return b"ID3\3\0\0" + id3(len(frame))[6:10] + frame + encode(None, "mp3", "libmp3lame")


def text(form: str) -> Callable[[str], bytes]:
    return lambda target: form.format(target=target).encode()


FORMS: dict[str, Callable[[str], bytes]] = {
    "m3u8": m3u8,
    "m3u8, a key to it": lambda target: m3u8("a.ts").replace(
        b"#EXTINF", f'#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n#EXTINF'.encode()
    ),
    "m3u8, its head": lambda target: m3u8("a.mp4").replace(
        b"#EXTINF", f'#EXT-X-MAP:URI="{target}"\n#EXTINF'.encode()
    ),
    "m3u": text("#EXTM3U\n{target}\n"),
    "pls": text("[playlist]\nNumberOfEntries=1\nFile1={target}\n"),
    "asx": text('<asx version="3.0"><entry><ref href="{target}"/></entry></asx>'),
    "asf reference": text("[Reference]\nRef1={target}\n"),
    "xspf": text("<playlist><trackList><track><location>{target}</location></track></trackList></playlist>"),
    "ram": text("{target}\n"),
    "smil": text('<smil><body><audio src="{target}"/></body></smil>'),
    "ffconcat": ffconcat,
    "concat": text("file '{target}'\n"),
    "dash": mpd,
    "imf": text("<CompositionPlaylist><Id>{target}</Id></CompositionPlaylist>"),
    "sdp": text("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\na=control:{target}\nm=audio 5004 RTP/AVP 0\n"),
    "lavfi": text("amovie={target}"),
    "ffmetadata": text(";FFMETADATA1\ntitle={target}\n"),
    "vobsub": text("# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n# {target}\n"),
    "quicktime": movie,
    "mp3 cover": cover,
    "wav list": lambda target: wav(before=chunk(b"LIST", b"INFOIART" + target.encode())),
    "matroska": lambda target: encode(None, "matroska", "libopus", rate=48_000, tags={"filename": target}),
}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def decoded(data: bytes) -> int:
    """Samples; 0 where it is refused."""
    try:
        with open_audio(io.BytesIO(data), limit_s=60) as audio:
            return sum(map(len, audio))
    except UndecodableAudio:
        return 0


@pytest.mark.parametrize("prefix", ["http://", "tcp://", "https://", "rtmp://", "ftp://", "rtsp://"])
@pytest.mark.parametrize("form", FORMS)
def test_no_address_is_contacted(form: str, prefix: str, listener: socket.socket) -> None:
    host, port = listener.getsockname()
    assert decoded(FORMS[form](f"{prefix}{host}:{port}/a.wav")) in (0, len(speech()))
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize(
    "prefix", ["", "file:", "file://", "concat:", "async:", "cache:", "subfile,,start,0,end,9,,:"]
)
@pytest.mark.parametrize("form", FORMS)
def test_no_file_is_opened(form: str, prefix: str, tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "secret.wav")
    assert decoded(FORMS[form](f"{prefix}{pipe}")) in (0, len(speech()))


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("ffconcat", {"safe": "0"}),
        ("quicktime", {"enable_drefs": "1", "use_absolute_path": "1"}),
    ],
)
def test_an_unguarded_ffmpeg_follows_the_references(form: str, options: dict[str, str], tmp_path: Path) -> None:
    """The same files, to an FFmpeg that is told less: so they are made well enough to be refused."""
    secret = tmp_path / "secret.wav"
    secret.write_bytes(wav(np.full(16_000, 777, np.int16).tobytes()))
    with av.open(io.BytesIO(FORMS[form](str(secret))), mode="r", container_options=options) as container:
        frames = np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])
    assert (frames == 777).sum() > 10_000
