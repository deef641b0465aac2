"""The middlewares that every request passes before its route: limits, keys, CORS, the access record."""
