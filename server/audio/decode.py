"""Decodes any audio or video file to blocks of 16 kHz mono int16 samples, in constant memory.

The only module that imports `av` (FFmpeg); it knows nothing of windows, models or requests. The file is untrusted:
the container is detected from its content alone, and no other file is ever opened.
"""

import errno
from collections.abc import Generator, Iterator
from itertools import chain, groupby
from types import TracebackType
from typing import Any, BinaryIO, Self

import av
import av.subtitles.codeccontext  # av imports it late, for the first file with subtitles, when a worker can't
import numpy as np
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream as Track
from av.container import InputContainer
from av.packet import Packet
from numpy.typing import NDArray

from server.errors import AudioTooLong, AudioTooShort, UndecodableAudio
from server.transcript import SAMPLE_RATE

BLOCK_SAMPLES = 10 * SAMPLE_RATE
MIN_SAMPLES = SAMPLE_RATE // 10
SOURCE_RATES_HZ = range(1_000, 768_001)  # beyond these, a tiny header makes the resampler allocate gigabytes
JOINED_SAMPLES = 16_384
MAX_READ_ERRORS = 100  # in a row: a stuck demuxer would repeat its error forever

# Self-contained formats only: playlists (hls, concat, dash, sdp) and image sequences open the files they name.
DEMUXERS = """
    aac ac3 aiff amr amrnb amrwb asf au avi caf dts eac3 flac flv loas matroska mov mp3 mpeg mpegts nistsphere ogg
    w64 wav wv
""".split()

# NIST SPHERE, the `.wav` of speech corpora: a text header, then PCM or Shorten, which is not among the decoders.
# Its demuxer has no options and opens nothing. It keeps every unknown line, repeated ones in quadratic time, so a
# header much longer than those of real corpora never reaches it.
SPHERE = b"NIST_1A\n"
SPHERE_SIZE_BYTES = 8  # of the field that gives the header's length, in digits
MAX_SPHERE_BYTES = 16_384  # maximum length of a header; 1024 is usual

# A disabled decoder can't be attacked. Without this list FFmpeg also decodes a video's pictures to probe them.
DECODERS = (
    """
    aac aac_latm ac3 adpcm_ima_qt adpcm_ima_wav adpcm_ms adpcm_swf adpcm_yamaha alac amrnb amrwb dca eac3 flac
    g722 g726 gsm gsm_ms mp1float mp2float mp3float mp1 mp2 mp3 opus speex vorbis wavpack
    wmapro wmav1 wmav2 wmavoice
""".split()
    + sorted(name for name in av.codecs_available if name.startswith("pcm_"))
)

# The usual formats of recordings, container and codec; this FFmpeg may have been built without some of them.
USUAL = {
    "mp3": ("mp3", "mp3float"),
    "aac": ("aac", "aac"),
    "m4a and mp4": ("mov", "aac"),
    "webm": ("matroska", "opus"),
    "ogg opus": ("ogg", "opus"),
    "ogg vorbis": ("ogg", "vorbis"),
    "flac": ("flac", "flac"),
    "wav": ("wav", "pcm_s16le"),
}

CONTAINER_OPTIONS = {
    "format_whitelist": ",".join(DEMUXERS),
    "codec_whitelist": ",".join(DECODERS),
    "protocol_whitelist": "none",
}

# Tags need not be UTF-8. PyAV 19 accepts them as they are and dropped the argument that 18 needs for that. PyAV 19
# starts a thread per CPU to resample, useless here, and a process with threads can't fork; 18 has none.
IS_19 = int(av.__version__.partition(".")[0]) >= 19
ANY_TAGS: dict[str, Any] = {} if IS_19 else {"metadata_errors": "ignore"}
ONE_THREAD: dict[str, Any] = {"threads": 1} if IS_19 else {}

Samples = NDArray[np.int16]


def lacking() -> list[str]:
    """Return the usual formats of recordings that can't be read here."""
    return [
        kind
        for kind, (container, codec) in USUAL.items()
        if container not in av.formats_available or codec not in av.codecs_available
    ]


class AudioStream:
    """The audio of one open file: iterate for blocks of `BLOCK_SAMPLES` int16 samples, the last one shorter.

    Raises `AudioTooLong` as soon as more than `limit_s` seconds are counted; at the end, `UndecodableAudio`
    if there were no samples and `AudioTooShort` below 0.1 s. Damaged packets are skipped.
    `samples` is the number yielded so far; `duration_hint_s` is the container's claim, which may be false.
    """

    def __init__(self, container: InputContainer, track: Track, limit_s: float) -> None:
        self.samples = 0
        self.duration_hint_s: float | None = None
        if container.duration is not None and container.duration > 0:
            self.duration_hint_s = container.duration / av.time_base
        self._container = container
        self._track = track
        self._limit_s = limit_s
        self._blocks = self._decode()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Samples:
        return next(self._blocks)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the iteration and free FFmpeg's resources; the file stays open. May be called twice."""
        self._blocks.close()  # first: resuming a demuxer without its container would crash the process
        self._container.close()

    def _decode(self) -> Generator[Samples]:
        try:
            for block in _blocks(_resample(_frames(self._container, self._track))):
                self.samples += len(block)
                if self.samples > self._limit_s * SAMPLE_RATE:
                    raise AudioTooLong(self._limit_s)
                yield block
        except av.FFmpegError as error:
            raise UndecodableAudio from error
        if not self.samples:
            raise UndecodableAudio("It contains no audio.")
        if self.samples < MIN_SAMPLES:
            raise AudioTooShort


def open_audio(file: BinaryIO, *, limit_s: float) -> AudioStream:
    """Open the best audio track of a seekable file, from its first byte; the caller closes both.

    Raises `UndecodableAudio` if the container is unknown, refused or broken, or has no audio track.
    """
    _check_sphere(file)
    file.seek(0)
    try:
        container = av.open(_UnnamedFile(file), mode="r", container_options=CONTAINER_OPTIONS, **ANY_TAGS)
    except av.FFmpegError as error:
        raise UndecodableAudio from error
    try:
        return AudioStream(container, _best_track(container), limit_s)
    except BaseException:
        container.close()
        raise


def _check_sphere(file: BinaryIO) -> None:
    """Raise `UndecodableAudio` for a NIST SPHERE file whose header is too long."""
    file.seek(0)
    if file.read(len(SPHERE)) == SPHERE:
        size = file.read(SPHERE_SIZE_BYTES).strip()
        if not size.isdigit() or int(size) > MAX_SPHERE_BYTES:
            raise UndecodableAudio


class _UnnamedFile:
    """Hides the name of a file: FFmpeg would guess the format from it, or open similarly named files."""

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read
        self.tell = file.tell
        self._seek = file.seek

    def seek(self, offset: int, whence: int) -> int:
        """Seek, or return an error: in damaged files FFmpeg seeks to negative offsets, and copes with an error."""
        try:
            return self._seek(offset, whence)
        except (OSError, ValueError):
            return -errno.EINVAL


def _best_track(container: InputContainer) -> Track:
    """FFmpeg's choice, or the first track that can be decoded; packets of all other streams are dropped unread."""
    tracks = container.streams.audio
    if not tracks:
        raise UndecodableAudio("It contains no audio stream.")
    best = container.streams.best("audio")
    usable = [track for track in tracks if track.codec_context and track.codec_context.name in DECODERS]
    if not usable:
        raise UndecodableAudio("Its audio codec is not supported.")
    chosen = next((track for track in usable if track is best), usable[0])
    for stream in container.streams:
        if stream is not chosen:
            stream.discard = av.stream.Discard.all
    return chosen


def _packets(container: InputContainer, track: Track) -> "Iterator[Packet[Track]]":
    errors = 0
    while errors < MAX_READ_ERRORS:
        try:
            for packet in container.demux(track):
                errors = 0
                yield packet
            return
        except MemoryError:
            raise
        except (av.FFmpegError, IndexError):  # IndexError: from av, for a packet of an unknown stream
            errors += 1  # the demuxer may recover after the damage: try again


def _frames(container: InputContainer, track: Track) -> Iterator[AudioFrame]:
    for packet in _packets(container, track):
        try:
            yield from packet.decode()
        except MemoryError:  # this process is short of memory; a transcript with gaps would be worse
            raise
        except (av.FFmpegError, ValueError):  # ValueError: from av 19, when a decoder failed to open earlier
            continue


def _resample(frames: Iterator[AudioFrame]) -> Iterator[Samples]:
    """Mono int16 at 16 kHz; a new resampler whenever the format of the source changes."""
    for (_, _, rate), run in groupby(frames, _form):
        if rate not in SOURCE_RATES_HZ:
            raise UndecodableAudio(f"Its sample rate of {rate} Hz is not supported.")
        resampler = AudioResampler("s16", "mono", SAMPLE_RATE, frame_size=BLOCK_SAMPLES, **ONE_THREAD)
        for frame in chain(_joined(run), [None]):  # None: flush the tail
            for resampled in resampler.resample(frame):
                yield resampled.to_ndarray()[0]


def _joined(frames: Iterator[AudioFrame]) -> Iterator[AudioFrame]:
    """Merge frames into longer ones: every call of the resampler has a fixed cost."""
    fifo = AudioFifo()
    for frame in frames:
        frame.pts = None  # timestamps of damaged files jump, and none is needed
        fifo.write(frame)
        if fifo.samples >= JOINED_SAMPLES and (joined := fifo.read()):
            yield joined
    if joined := fifo.read():
        yield joined


def _form(frame: AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _blocks(pieces: Iterator[Samples]) -> Iterator[Samples]:
    """The same samples in blocks of `BLOCK_SAMPLES`."""
    rest = np.empty(0, np.int16)
    for piece in pieces:
        joined = np.concatenate((rest, piece)) if len(rest) else piece
        full = len(joined) - len(joined) % BLOCK_SAMPLES
        for start in range(0, full, BLOCK_SAMPLES):
            yield joined[start : start + BLOCK_SAMPLES]
        rest = joined[full:]
    if len(rest):
        yield rest
