"""One request: windows to the engine, segments back in order. Read `pipeline` first."""
