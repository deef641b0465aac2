"""Prometheus series, the access record, memory readings."""
