"""The order of windows when each depends on the one before: openai/whisper's seek loop.

A window begins where the segments of the last one ended and is prompted with their text. Knows no model and no
queue: a generator that yields a window with its options and is sent the result.
"""

from collections.abc import Generator, Sequence
from dataclasses import replace

from server.options import MAX_PROMPT, DecodingOptions
from server.transcript import FRAME_S, FRAME_SAMPLES, MAX_FRAMES, SAMPLE_RATE, Span, Window, WindowResult

RESET_TEMPERATURE = 0.5  # text that needed a higher temperature is no good prompt
FRAMES_PER_S = SAMPLE_RATE // FRAME_SAMPLES

Steps = Generator[tuple[Window, DecodingOptions], WindowResult, None]


def in_sequence(speech: Sequence[Span], options: DecodingOptions, mel_max: float | None) -> Steps:
    """Windows over the spans of speech, one after another; `mel_max` is the maximum over the whole input."""
    total_frames = sum(len(span) for span in speech) // FRAME_SAMPLES
    seek, index, previous = 0, 0, tuple[int, ...]()
    while seek < total_frames:
        frames = min(MAX_FRAMES, total_frames - seek)
        window = Window(index, cut(speech, seek * FRAME_SAMPLES, frames * FRAME_SAMPLES), mel_max=mel_max)
        result = yield window, replace(options, previous_tokens=previous, clock_s=seek * FRAME_S)
        if not options.multilingual:
            options = replace(options, language=result.language)
        if result.silent:
            seek += frames
        else:
            tokens = (token for segment in result.segments for token in segment.tokens)
            previous = (*previous, *tokens)[-MAX_PROMPT:]
            if result.temperature > RESET_TEMPERATURE:
                previous = ()
                options = replace(options, prompt="")
            if result.words_end is not None:
                options = replace(options, last_speech_s=result.words_end)
            seek = _next(result, seek, frames)
        index += 1


def cut(speech: Sequence[Span], start: int, length: int) -> tuple[Span, ...]:
    """The spans with `length` samples of speech from its sample `start` on, not counting silence in between."""
    spans: list[Span] = []
    for span in speech:
        if start >= len(span):
            start -= len(span)
            continue
        taken = min(length, len(span) - start)
        spans.append(Span(span.start + start, span.start + start + taken))
        start, length = 0, length - taken
        if not length:
            break
    return tuple(spans)


def _next(result: WindowResult, seek: int, frames: int) -> int:
    """The frame to continue from: that of the last word's end if the model stopped inside the window."""
    end = round(result.words_end * FRAMES_PER_S) if result.open_ended and result.words_end is not None else 0
    # Without progress it would never end; openai/whisper's rules allow that, by a segment from 0.00 to 0.00.
    return end if end > seek else seek + (result.consumed // FRAME_SAMPLES or frames)
