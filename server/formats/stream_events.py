"""A transcription as the events of a stream: OpenAI's, and this server's own (`sotto.*`) where they are asked for.

Pure functions of values; knows neither how an event travels nor when.
"""

from collections.abc import Iterator

from server.formats.render import Json, json_answer, logprob_dicts, verbose_segment
from server.options import TranscriptionOptions
from server.transcript import Segment, Transcript


class DeltaWriter:
    """Tells the segments of one transcription, which must come in order.

    Its deltas, joined, are the text of `done`: trimmed at both ends.
    """

    def __init__(self, options: TranscriptionOptions) -> None:
        self._options = options
        self._begun = False
        self._space = ""  # at the end of what was told: it counts only if text follows

    def segment(self, segment: Segment) -> Iterator[Json]:
        """The events of a finished segment: a delta, unless it is blank, and itself if that was asked for."""
        if delta := self._delta(segment.text):
            event: Json = {"type": "transcript.text.delta", "delta": delta}
            if self._options.decoding.token_logprobs:
                event["logprobs"] = logprob_dicts([segment])
            yield event
        if "segments" in self._options.stream_events:
            yield {"type": "sotto.segment"} | verbose_segment(
                segment,
                with_words=self._options.decoding.word_timestamps,
                dialect=self._options.response_dialect,
            )

    def _delta(self, text: str) -> str:
        text = self._space + text
        told = text.rstrip()
        self._space = text[len(told) :]
        if not self._begun:
            told = told.lstrip()
        self._begun |= bool(told)
        return told


def done(transcript: Transcript, options: TranscriptionOptions) -> Json:
    """The last event: what `json` would answer, with usage in tokens only, for the schema has no other here."""
    answer = json_answer(transcript, options)
    if not options.counts_tokens:
        answer.pop("usage", None)
    return {"type": "transcript.text.done"} | answer


def progress(done_s: float, total_hint_s: float | None, queue_position: int, language: str | None = None) -> Json:
    """How far the segments have come, of how much (absent where nothing is claimed), behind how many requests.

    `language` is the recording's, once something was heard.
    """
    event: Json = {"type": "sotto.progress", "done_s": round(done_s * 1000) / 1000}
    if total_hint_s is not None:
        event["total_hint_s"] = round(total_hint_s, 3)
    event["queue_position"] = queue_position
    return event if language is None else event | {"language": language}
