"""Measurements in Prometheus' text format, as a file that node_exporter's textfile collector reads.

https://prometheus.io/docs/instrumenting/exposition_formats/ (version 0.0.4). Everything is a gauge:
a process that measures once and ends has nothing that could count up. A label holds a name of ours,
never an id, a URI or what a server said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cmzon_secrets.private_files import exclusive_lock, replace_durably

__all__ = ["Gauge", "render", "write_textfile"]

READABLE_BY_ALL = 0o644
"""The collector runs as another user; nothing in the file is secret."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """One metric: its name, one sentence about it, and each labelled value."""

    name: str
    help: str
    samples: Iterable[tuple[Mapping[str, str], float]]


def render(gauges: Iterable[Gauge]) -> str:
    """The text of these metrics; one without any sample is left out."""
    return "".join(map(_rendered, gauges))


def write_textfile(path: str, gauges: Iterable[Gauge]) -> None:
    """Put these metrics in place of the file: the collector sees the old file or the new one, whole.

    Raises AccessDenied, ConfigurationError or ProviderUnavailable, with the path.
    """
    target = Path(path)
    with exclusive_lock(str(target.with_name(f".{target.name}.lock")), uri=path):
        replace_durably(path, render(gauges).encode(), uri=path, mode=READABLE_BY_ALL)


def _rendered(gauge: Gauge) -> str:
    lines = [f"{gauge.name}{_labels(labels)} {value!r}\n" for labels, value in gauge.samples]
    if not lines:
        return ""
    about = gauge.help.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {gauge.name} {about}\n# TYPE {gauge.name} gauge\n{''.join(lines)}"


def _labels(labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
