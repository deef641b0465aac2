"""Which models are in memory: load on demand, share, unload."""
