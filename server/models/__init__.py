"""Models on disk: catalog, download, verify, export, remove."""
