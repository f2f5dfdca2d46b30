"""Grafana dashboards as code: `build.py` makes the committed JSON that Grafana provisions."""
