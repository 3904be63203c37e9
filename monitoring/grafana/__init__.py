"""Dashboards for Grafana, as code: ``python -m headrace.monitoring.grafana.dashboards FOLDER``."""
