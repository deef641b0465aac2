"""Renders a transcript as JSON, text, subtitles or stream events. Pure functions."""
