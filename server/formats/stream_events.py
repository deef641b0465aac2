"""The events of a streamed transcription: OpenAI's, and this server's own (`sotto.*`) on request.

Pure functions of values, independent of transport and timing.
"""

from collections.abc import Iterator

from server.formats.answers import ProgressEvent, SegmentEvent, TextDelta, TextDone
from server.formats.render import add_details, logprob_dicts, token_usage, verbose_segment
from server.options import TranscriptionOptions
from server.transcript import Segment, Transcript


class DeltaWriter:
    """Converts the segments of one transcription, which must come in order, to events.

    Its deltas, joined, are the text of `done`: trimmed at both ends.
    """

    def __init__(self, options: TranscriptionOptions) -> None:
        self._options = options
        self._begun = False
        self._space = ""  # trailing whitespace held back: it counts only if more text follows

    def segment(self, segment: Segment) -> Iterator[TextDelta | SegmentEvent]:
        """Yield the events of a finished segment: a delta unless it is blank, and the segment itself on request."""
        if delta := self._delta(segment.text):
            event: TextDelta = {"type": "transcript.text.delta", "delta": delta}
            if self._options.decoding.token_logprobs:
                event["logprobs"] = logprob_dicts([segment])
            yield event
        if "segments" in self._options.stream_events:
            with_words, dialect = self._options.decoding.word_timestamps, self._options.response_dialect
            yield {"type": "sotto.segment", **verbose_segment(segment, with_words=with_words, dialect=dialect)}

    def _delta(self, text: str) -> str:
        text = self._space + text
        delta = text.rstrip()
        self._space = text[len(delta) :]
        if not self._begun:
            delta = delta.lstrip()
        self._begun |= bool(delta)
        return delta


def done(transcript: Transcript, options: TranscriptionOptions) -> TextDone:
    """Return the last event: the members of `json`, with usage only in tokens, as the event's schema requires."""
    event: TextDone = {"type": "transcript.text.done", "text": transcript.text}
    add_details(event, transcript, options)
    if options.counts_tokens and transcript.task == "transcribe":
        event["usage"] = token_usage(transcript)
    return event


def progress(
    done_s: float, total_hint_s: float | None, queue_position: int, language: str | None = None
) -> ProgressEvent:
    """Return the progress event: audio done, the total if the file states one, both s, and the requests ahead.

    `language` is the recording's, once speech was recognized.
    """
    event: ProgressEvent = {
        "type": "sotto.progress",
        "done_s": round(done_s * 1000) / 1000,
        "total_hint_s": round(total_hint_s or 0.0, 3),
        "queue_position": queue_position,
    }
    if total_hint_s is None:
        del event["total_hint_s"]
    if language is not None:
        event["language"] = language
    return event
