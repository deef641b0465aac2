"""The work of each `sotto` command, `serve` included."""
