"""Prometheus' text format, read back by the parser of Prometheus' own client."""

from __future__ import annotations

import os
import stat
import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cmzon_secrets.errors import CMzonSecretsError
from cmzon_secrets.textfile import Gauge, render, write_textfile

GAUGE = Gauge(
    "cmzon_accounts", "Accounts by state.", [({"state": "done"}, 2), ({"state": "failed"}, 0)]
)


def read(text):
    return {
        (sample.name, *sample.labels.items()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_is_written_is_read_back():
    (family,) = text_string_to_metric_families(render([GAUGE]))
    assert (family.name, family.type, family.documentation) == (
        "cmzon_accounts",
        "gauge",
        "Accounts by state.",
    )
    assert read(render([GAUGE])) == {
        ("cmzon_accounts", ("state", "done")): 2,
        ("cmzon_accounts", ("state", "failed")): 0,
    }


@pytest.mark.parametrize("name", ['"', "\\", "a\nb", 'x="1"} 5\ny{', "Grüße", "\\n", ""])
def test_no_name_can_break_out_of_its_label(name):
    found = read(render([Gauge("cmzon_x", "X.", [({"account": name}, 1.5)])]))
    assert found == {("cmzon_x", ("account", name)): 1.5}


def test_a_moment_keeps_its_fractions_and_a_metric_without_labels_has_no_braces():
    assert render([Gauge("cmzon_t", "T.", [({}, 1795578937.082231)])]).endswith(
        "\ncmzon_t 1795578937.082231\n"
    )


def test_a_metric_without_samples_is_left_out():
    assert render([Gauge("cmzon_x", "X.", [])]) == ""


def test_the_collector_can_read_the_file_and_nothing_else_of_ours_is_taken_for_one(tmp_path):
    path = tmp_path / "cmzon.prom"
    before = os.umask(0o077)
    try:
        write_textfile(str(path), [GAUGE])
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [p.name for p in tmp_path.glob("*.prom")] == ["cmzon.prom"]


def test_whoever_reads_meanwhile_sees_a_whole_file(tmp_path):
    path = tmp_path / "cmzon.prom"
    many = Gauge("cmzon_x", "X.", [({"account": f"acme-{n}"}, n) for n in range(500)])
    whole = render([many])
    write_textfile(str(path), [many])
    writers = [
        threading.Thread(target=lambda: [write_textfile(str(path), [many]) for _ in range(10)])
        for _ in range(2)
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert path.read_text() == whole
    assert [p.name for p in tmp_path.iterdir() if "tmp" in p.name] == []


def test_where_it_cannot_be_written_the_error_is_ours(tmp_path):
    with pytest.raises(CMzonSecretsError, match="no/such"):
        write_textfile(str(tmp_path / "no/such/cmzon.prom"), [GAUGE])
