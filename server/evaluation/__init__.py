"""How far transcripts are from what was said: references, word errors, word times. Opens no recording."""
