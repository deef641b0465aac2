"""A transcript out: JSON, text, subtitles, stream events. Pure functions."""
