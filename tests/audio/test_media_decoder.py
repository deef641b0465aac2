import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Protocol

import numpy as np
import pytest

from server.audio.media_decoder import FileScanner, MediaDecoder, Recording
from server.audio.scanner import Scanner
from server.audio.workers import MediaWorkers
from server.errors import AudioTooLong, AudioTooShort, Cancelled, Unavailable, UndecodableAudio
from server.options import UploadFd, VadOptions
from server.transcript import MAX_WINDOW_S, SAMPLE_RATE, Window
from tests.support.bad_inputs import silence
from tests.support.fakes import DEADLINE_S, Samples, tone, upload, wait_until

EVERYTHING = VadOptions(enabled=False, window_s=1.0)


class OpenedMedia(Protocol):
    """Makes a `MediaDecoder` that must have given everything back when the block ends."""

    def __call__(
        self, *, workers: int = 2, spool_bytes: int = 1 << 30, max_audio_s: float = 3600.0
    ) -> AbstractContextManager[MediaDecoder]: ...


class Shared:
    """A scanner that outlives the `MediaDecoder` that has it."""

    def __init__(self, scanner: FileScanner) -> None:
        self.scan = scanner.scan
        self.wait_until_ready = scanner.wait_until_ready
        self.stats = scanner.stats
        self.is_ready = True

    def close(self) -> None:
        """The owner does."""


@pytest.fixture(scope="module", params=["threads", "processes"])
def scanner(request: pytest.FixtureRequest) -> Iterator[FileScanner]:
    """Every test of this file is run with both; the processes are started once."""
    if request.param == "threads":
        yield Scanner()
        return
    if sys.platform != "linux":
        pytest.skip("media workers need Linux")
    workers = MediaWorkers(memory_bytes=512 << 20, timeout_s=DEADLINE_S)
    yield workers
    workers.close()


@pytest.fixture
def opened_media(scanner: FileScanner) -> OpenedMedia:
    @contextmanager
    def opened(
        *, workers: int = 2, spool_bytes: int = 1 << 30, max_audio_s: float = 3600.0
    ) -> Iterator[MediaDecoder]:
        media = MediaDecoder(Shared(scanner), workers=workers, spool_bytes=spool_bytes, max_audio_s=max_audio_s)
        try:
            yield media
        finally:
            media.close()
        assert media.spooled_bytes == 0

    return opened


def decode(media: MediaDecoder, source: UploadFd, options: VadOptions) -> tuple[Recording, list[Window], float]:
    windows: list[Window] = []
    recording = media.open(source, options, on_window=windows.append)
    return recording, windows, recording.finished.result(DEADLINE_S)


def samples_of(recording: Recording, windows: list[Window]) -> Samples:
    loaded = [recording.load(window) for window in windows]
    samples = [np.frombuffer(each.samples, np.int16)[each.lead :][: each.length] for each in loaded]
    return np.concatenate(samples)


class Gate:
    """An `on_window` that lets its worker go on when told to."""

    def __init__(self) -> None:
        self.windows: list[Window] = []
        self._go = threading.Event()

    def __call__(self, window: Window) -> None:
        self.windows.append(window)
        assert self._go.wait(DEADLINE_S), "held for too long"

    def open(self) -> None:
        self._go.set()


@pytest.mark.parametrize(
    ("name", "duration_s", "windows_expected"),
    [
        ("en_00.wav", 2.443, 1),
        ("en_14.mp3", 2.148, 1),
        ("en_17.webm", 1.885, 1),
        ("en_19.mp4", 2.814, 1),
        ("long_pause.flac", 12.274, 1),
        ("two_minutes.mp3", 119.134, 4),
        ("silence_10s.wav", 10.0, 0),
    ],
)
def test_windows_of_a_file_lie_inside_it_and_in_order(
    opened_media: OpenedMedia, name: str, duration_s: float, windows_expected: int
) -> None:
    with opened_media() as media, upload(name) as source:
        recording, windows, counted_s = decode(media, source, VadOptions())
        assert counted_s == pytest.approx(duration_s, abs=0.05)
        assert recording.duration_hint_s == pytest.approx(duration_s, abs=0.2)  # en_19: that of its pictures
        assert windows_expected <= len(windows) <= 2 * windows_expected
        assert [window.index for window in windows] == list(range(len(windows)))
        spans = [span for window in windows for span in window.spans]
        edges = [edge for span in spans for edge in (span.start, span.end)]
        assert edges == sorted(edges)
        assert all(0 <= edge <= counted_s * SAMPLE_RATE for edge in edges)
        assert all(0 < window.length <= MAX_WINDOW_S * SAMPLE_RATE for window in windows)
        recording.close()


def test_long_silence_is_in_no_window(opened_media: OpenedMedia) -> None:
    with opened_media() as media, upload("long_pause.flac") as source:
        recording, windows, _ = decode(media, source, VadOptions())
        transcribed_s = sum(window.duration_s for window in windows)
        assert 3.0 < transcribed_s < 6.0  # of 12, with 8 s of silence in the middle
        recording.close()


def test_without_detection_every_sample_is_in_a_window(opened_media: OpenedMedia) -> None:
    audio = tone(25)
    with opened_media() as media, upload(audio) as source:
        recording, windows, duration_s = decode(media, source, EVERYTHING)
        assert duration_s == 25.0
        assert np.array_equal(samples_of(recording, windows), audio)
        assert all(window.duration_s <= 1.0 for window in windows)
        recording.close()


def test_windows_come_while_the_file_is_decoded(opened_media: OpenedMedia) -> None:
    gate = Gate()
    with opened_media() as media, upload(tone(60)) as source:
        recording = media.open(source, EVERYTHING, on_window=gate)
        wait_until(lambda: bool(gate.windows))
        assert not recording.finished.done()
        assert recording.duration_hint_s == 60.0
        assert recording.spool.samples < 30 * SAMPLE_RATE
        gate.open()
        assert recording.finished.result(DEADLINE_S) == 60.0
        recording.close()


def test_the_source_is_read_from_its_start_and_stays_open(opened_media: OpenedMedia) -> None:
    with opened_media() as media, upload(tone(3)) as source:
        for _ in range(2):  # the first run leaves the descriptor at its end
            recording, windows, duration_s = decode(media, source, EVERYTHING)
            assert duration_s == 3.0
            assert len(windows) > 2
            recording.close()


@pytest.mark.parametrize(
    ("audio", "error"),
    [(silence(0), UndecodableAudio), (silence(0.05), AudioTooShort), (None, UndecodableAudio)],
)
def test_a_file_that_is_no_good_ends_with_its_error(
    opened_media: OpenedMedia, audio: Samples | None, error: type[Exception]
) -> None:
    windows: list[Window] = []
    with opened_media() as media, upload("README.md" if audio is None else audio) as source:
        recording = media.open(source, VadOptions(), on_window=windows.append)
        assert type(recording.finished.exception(DEADLINE_S)) is error
        assert windows == []
        recording.close()


def test_a_file_that_is_too_long_is_decoded_no_further_than_the_limit(opened_media: OpenedMedia) -> None:
    windows: list[Window] = []
    with opened_media(max_audio_s=15) as media, upload(tone(60)) as source:
        recording = media.open(source, EVERYTHING, on_window=windows.append)
        with pytest.raises(AudioTooLong, match="longer than 15 seconds"):
            recording.finished.result(DEADLINE_S)
        assert recording.spool.samples <= 15 * SAMPLE_RATE
        assert windows
        recording.close()


def test_a_full_spool_ends_one_file_and_makes_room_again(opened_media: OpenedMedia) -> None:
    with opened_media(spool_bytes=600_000) as media, upload(tone(60)) as long, upload(tone(5)) as short:
        recording = media.open(long, EVERYTHING, on_window=lambda _: None)
        assert isinstance(recording.finished.exception(DEADLINE_S), Unavailable)
        recording.close()
        recording, _, duration_s = decode(media, short, EVERYTHING)
        assert duration_s == 5.0
        recording.close()


def test_the_spool_is_kept_until_the_recording_is_closed(opened_media: OpenedMedia) -> None:
    with opened_media() as media, upload(tone(5)) as source:
        recording, windows, _ = decode(media, source, EVERYTHING)
        assert media.spooled_bytes == 5 * SAMPLE_RATE * 2
        assert recording.load(windows[0]).samples
        recording.close()
        assert media.spooled_bytes == 0
        recording.close()
        assert media.spooled_bytes == 0


def test_closing_stops_the_decoder_and_frees_the_spool_when_it_has_stopped(opened_media: OpenedMedia) -> None:
    gate = Gate()
    with opened_media() as media, upload(tone(120)) as source:
        recording = media.open(source, EVERYTHING, on_window=gate)
        wait_until(lambda: bool(gate.windows))
        recording.close()
        assert media.spooled_bytes > 0  # the worker still writes to it
        gate.open()
        assert isinstance(recording.finished.exception(DEADLINE_S), Cancelled)
        wait_until(lambda: media.spooled_bytes == 0)
        assert len(gate.windows) < 30


def test_a_recording_that_is_closed_before_a_worker_takes_it_is_never_decoded(opened_media: OpenedMedia) -> None:
    gate, windows = Gate(), list[Window]()
    with opened_media(workers=1) as media, upload(tone(30)) as first, upload(tone(5)) as second:
        busy = media.open(first, EVERYTHING, on_window=gate)
        wait_until(lambda: bool(gate.windows))
        waiting = media.open(second, EVERYTHING, on_window=windows.append)
        waiting.close()
        assert waiting.finished.cancelled()
        gate.open()
        busy.finished.result(DEADLINE_S)
        busy.close()
    assert windows == []


def test_without_threads_nothing_is_kept_or_decoded_later(
    opened_media: OpenedMedia, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    windows: list[Window] = []
    with opened_media(workers=1) as media, upload("en_00.wav") as source:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(Unavailable, match="no threads left"):
                media.open(source, VadOptions(), on_window=windows.append)
        decode(media, source, VadOptions())[0].close()
        assert windows == []


def test_more_files_than_workers_are_all_decoded_and_not_mixed_up(opened_media: OpenedMedia) -> None:
    lengths = [1, 2, 3, 4, 5, 6, 7, 8]
    with opened_media(workers=2) as media, ExitStack() as stack:
        sources = [stack.enter_context(upload(tone(length))) for length in lengths]
        recordings = [media.open(source, EVERYTHING, on_window=lambda _: None) for source in sources]
        assert [recording.finished.result(DEADLINE_S) for recording in recordings] == lengths
        assert media.spooled_bytes == sum(lengths) * SAMPLE_RATE * 2
        for recording in recordings:
            recording.close()


def test_an_error_in_on_window_ends_the_recording(opened_media: OpenedMedia) -> None:
    def refuse(window: Window) -> None:
        raise RuntimeError("the loop is closed")

    with opened_media() as media, upload(tone(5)) as source:
        recording = media.open(source, EVERYTHING, on_window=refuse)
        with pytest.raises(RuntimeError, match="the loop is closed"):
            recording.finished.result(DEADLINE_S)
        recording.close()


def test_no_thread_is_left_after_close(opened_media: OpenedMedia) -> None:
    before = set(threading.enumerate())
    with opened_media(workers=3) as media, upload(tone(1)) as source:
        decode(media, source, EVERYTHING)[0].close()
    assert set(threading.enumerate()) <= before
