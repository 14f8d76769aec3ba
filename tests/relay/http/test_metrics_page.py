"""What is written about metrics: the page, the alarms and the dashboard name what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from agora.relay import Relay
from agora.relay.config import SETTINGS
from agora.relay.http.exposition import METRICS
from tests.relay.http.watching import watched

ROOT = Path(__file__).parents[3]
ALARMS = ROOT / "deploy/prometheus/alerts.yml"
DASHBOARD = ROOT / "deploy/prometheus/grafana.json"

SUFFIXES = ("", "_total", "_info", "_bucket", "_sum", "_count")


def known_series() -> set[str]:
    """Return every name that a query may ask for."""
    return {metric.name + suffix for metric in METRICS for suffix in SUFFIXES}


async def test_a_scrape_has_what_the_page_has_and_what_processes_have(relay: Relay) -> None:
    async with watched(relay) as client:
        text = (await client.get("/metrics")).text

    scraped = {
        family.name: {name for sample in family.samples for name in sample.labels} - {"le"}
        for family in text_string_to_metric_families(text)
    }
    ours = {name: labels for name, labels in scraped.items() if name.startswith("agora_")}
    on_disk = {"agora_disk_free_bytes"}  # this relay has its mailboxes in memory
    written = {
        metric.name + ("_info" if metric.kind == "info" else ""): set(metric.labels)
        for metric in METRICS
        if metric.name not in on_disk
    }
    assert ours == written
    assert all(name.startswith("process_") for name in scraped.keys() - ours.keys())


async def test_the_values_of_labels_are_those_of_the_page(relay: Relay) -> None:
    page = (ROOT / "docs/reference/metrics.md").read_text()
    codes = (ROOT / "docs/reference/codes.md").read_text()
    async with watched(relay) as client:
        text = (await client.get("/metrics")).text

    values = {
        (name, value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        for name, value in sample.labels.items()
        if name not in ("le", "version", "core")
    }
    unknown = [
        value for name, value in values if f"`{value}`" not in (codes if name == "code" else page)
    ]
    assert len(values) > 30
    assert unknown == []


def test_a_name_ends_with_its_unit_and_says_what_it_is() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"agora(_[a-z]+)+", metric.name)
        assert metric.name.endswith(metric.unit)
        assert metric.help.endswith(".")
        assert metric.worry.endswith(".")


def test_what_the_page_says_of_settings_is_of_settings_that_are_there() -> None:
    told = " ".join(metric.help + metric.worry for metric in METRICS)

    assert {*re.findall(r"the setting `(\w+)`", told)} <= {*SETTINGS}


def test_alarms_ask_for_metrics_that_are_there() -> None:
    asked = re.findall(r"expr: (.*)", ALARMS.read_text())
    named = {name for expression in asked for name in re.findall(r"\bagora_\w+", expression)}

    assert len(asked) > 5
    assert named <= known_series()


def test_the_dashboard_asks_for_metrics_that_are_there() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    named = {name for expression in asked for name in re.findall(r"\bagora_\w+", expression)}

    assert named
    assert named <= known_series()
