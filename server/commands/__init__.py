"""What each `sotto` command does, `serve` included."""
