"""What every request passes before its route: limits, keys, CORS, the access record."""
