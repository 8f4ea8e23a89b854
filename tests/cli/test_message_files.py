"""What a file of messages may look like, and what is said of each line that is none."""

from __future__ import annotations

import io
import json
import tracemalloc
from datetime import UTC, datetime

import pytest

from cmzon_secrets.cli.message_files import Fault, Message, format_of, read_messages
from cmzon_secrets.cli.staging import Staged
from cmzon_secrets.errors import ConfigurationError

TO, TEXT = "+12025550123", "Your parcel is on its way."
SALT = b"of one outbox"


def read(text, format="csv"):
    data = text if isinstance(text, bytes) else text.encode()
    return list(read_messages(io.BytesIO(data), format, name="m"))


def row(**members):
    return json.dumps({"to": TO, "text": TEXT, **members}) + "\n"


def staged(*lines):
    """What is queued of these JSON lines, as ``(text, key)``, and the faults."""
    with Staged() as held:
        held.add(read("".join(lines), "jsonl"))
        queued = [(text, key) for _, text, key, _ in held.messages(SALT)]
        return queued, list(held.faults())


# ── what is read ────────────────────────────────────────────────────────────────────────────────


def test_csv_and_json_lines_say_the_same():
    moment = datetime(2026, 12, 24, 8, tzinfo=UTC)
    expected = [(2, Message(TO, TEXT, "k", moment)), (3, Message(TO, "two"))]
    csv = f"to,text,key,not_before\n{TO},{TEXT},k,2026-12-24T09:00:00+01:00\n{TO},two,,\n"
    jsonl = "\n" + row(key="k", not_before="2026-12-24T08:00:00Z") + row(text="two", key=None)
    assert read(csv) == read(jsonl, "jsonl") == expected


@pytest.mark.parametrize("text", ['says "hi", twice', "two\nlines", "Grüße 👋", "  blanks kept  "])
def test_csv_keeps_every_character_of_a_quoted_text(text):
    quoted = text.replace('"', '""')
    ((_, message),) = read(f'text,to\r\n"{quoted}",{TO}\r\n')
    assert message.text == text


def test_a_byte_order_mark_is_no_part_of_the_first_name():
    assert len(read(f"\ufeffto,text\n{TO},hi\n")) == len(read("\ufeff" + row(), "jsonl")) == 1


def test_line_numbers_are_those_of_an_editor():
    numbers = [line[0] for line in read(f'to,text\n\n{TO},"a\nb"\n{TO},c\n')]
    assert numbers == [3, 5]


def test_the_format_is_that_of_the_name():
    names = ["a.csv", "A.CSV", "a.jsonl", "a.ndjson", "a.json", "a.txt", "-"]
    assert [format_of(n) for n in names] == ["csv", "csv", "jsonl", "jsonl", "jsonl", None, None]


# ── bad lines ───────────────────────────────────────────────────────────────────────────────────

BAD_JSON = {
    "{": (None, "not JSON"),
    "[1]": (None, "not a JSON object"),
    '{"to": "+12025550123"}': ("text", "is missing"),
    row(to="12025550123"): ("to", "not a phone number"),
    row(to=12025550123): ("to", "a str is needed, got int"),
    row(text=""): ("text", "not empty"),
    row(text="\ud800"): ("text", "half of a character"),
    row(text="x" * 4097): ("text", "4097 characters"),
    row(key="two words"): ("key", "printable ASCII"),
    row(key=7): ("key", "printable ASCII"),
    row(not_before="tomorrow"): ("not_before", "a time with an offset"),
    row(not_before="2026-12-24T09:00:00"): ("not_before", "a time with an offset"),
    row(not_before=60): ("not_before", "a time with an offset"),
    row(not_before="0001-01-01T00:00:00+02:00"): ("not_before", "a time with an offset"),
    row(when=1): (None, "unknown member 'when'; valid: to, text, key, not_before"),
    '{"to": "+1", "to": "+1"}': (None, "twice"),
    '{"to": ' + "9" * 5000 + "}": (None, "not JSON"),
    "[" * 100_000: (None, "not JSON"),
}


@pytest.mark.parametrize("line", BAD_JSON, ids=lambda line: line.strip()[:40])
def test_a_bad_json_line_is_named_with_its_field(line):
    field, reason = BAD_JSON[line]
    good, bad, after = read(row() + line.strip() + "\n" + row(), "jsonl")
    assert isinstance(bad, Fault)
    assert (bad.line, bad.field) == (2, field)
    assert reason in bad.reason
    assert (good[0], after[0]) == (1, 3)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"+12025550123,one,two", "number of fields: 3, in the header: 2"),
        (b"+12025550123", "number of fields: 1, in the header: 2"),
        (b'+12025550123,"a"b', "not CSV"),
        (b"+12025550123,Gr\xfc\xdfe", "not UTF-8"),
        (b"+12025550123," + b"x" * 200_000, "not CSV: field larger"),
        (b"12025550123,hi", "not a phone number"),
    ],
)
def test_a_bad_csv_line_is_named_and_the_next_is_read(line, reason):
    bad, after = read(b"to,text\n" + line + b"\n" + f"{TO},hi\n".encode())
    assert bad.line == 2
    assert reason in bad.reason
    assert after == (3, Message(TO, "hi"))


def test_a_quote_that_is_never_closed_is_one_fault_where_it_begins():
    (bad,) = read(f'to,text\n{TO},"never closed\n{TO},swallowed\n')
    assert (bad.line, bad.reason) == (2, "not CSV: unexpected end of data")


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("", "no column 'to'"),
        ("to", "no column 'text'"),
        ("to;text", "no column 'to': it is divided by semicolons, not by commas"),
        ("to\ttext", "no column 'to': it is divided by tabs, not by commas"),
        ("to,text,name", "unknown column 'name'"),
        ("to,text,to", "a column twice"),
        (f"{TO},{TEXT}", "no column 'to'"),
    ],
)
def test_a_csv_without_its_header_is_no_such_file(header, why):
    with pytest.raises(ConfigurationError, match=why) as caught:
        read(f"{header}\n{TO},hi\n")
    assert caught.value.hint.startswith("begin with a line such as: to,text")
    assert TO not in str(caught.value)


@pytest.mark.parametrize("format", ["csv", "jsonl"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_called_by_its_name(format, encoding):
    data = f"\N{ZERO WIDTH NO-BREAK SPACE}to,text\n{TO},hi\n".encode(encoding)
    with pytest.raises(ConfigurationError, match="it is UTF-16, not UTF-8") as caught:
        read(data, format)
    assert "CSV UTF-8" in caught.value.hint


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_a_line_without_end_is_not_taken_into_memory(format):
    data = b"to,text\n" + b"x" * (1 << 20) + b"y"
    with pytest.raises(ConfigurationError, match="line 2 has more than 1,048,576 bytes"):
        read(data, format)


def test_no_fault_repeats_a_number_or_a_text():
    lines = [*BAD_JSON, row(to="+1202555x", text="Kanarienvogel"), "Kanarienvogel\n"]
    told = " ".join(str(fault) for fault in read("\n".join(lines), "jsonl"))
    assert "2025550123" not in told
    assert "1202555x" not in told
    assert "Kanarienvogel" not in told


# ── keys ────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_makes_a_message_one_message():
    queued, faults = staged(row(key="a"), row(key="a"), row(key="b"))
    assert ([key for _, key in queued], faults) == (["a", "b"], [])


def test_a_key_for_two_messages_is_a_fault_that_names_both_lines():
    _, (fault,) = staged(row(key="a"), row(key="b"), row(key="a", text="another"))
    assert str(fault) == "3: key — line 1 has it, with another message"


def test_a_line_without_a_key_gets_one_that_outlasts_mending_sorting_and_adding():
    first = dict(staged(row(text="a"), row(text="b"))[0])
    again = dict(staged(row(text="new"), row(text="b"), row(text="a"))[0])
    assert again.items() > first.items()
    assert len(set(again.values())) == 3


def test_lines_that_are_the_same_are_messages_of_their_own():
    queued, _ = staged(row(), row(), row())
    keys = [key for _, key in queued]
    assert len(set(keys)) == 3
    assert [key for _, key in staged(row(), row())[0]] == keys[:2]


def test_another_time_is_another_message():
    queued, _ = staged(row(), row(not_before="2026-12-24T09:00:00Z"))
    assert len({key for _, key in queued}) == 2


def test_in_another_outbox_the_same_line_has_another_key():
    with Staged() as held:
        held.add(read(row(), "jsonl"))
        ((*_, one, _),), ((*_, other, _),) = (held.messages(salt) for salt in (SALT, b"another"))
    assert one != other


def test_a_long_file_needs_no_more_memory_than_a_short_one():
    lines = (row(text=f"{TEXT} {n}").encode() for n in range(10**9))

    class Endless(io.RawIOBase):
        def readline(self, size=-1):
            return next(lines)

    def peak(count):
        tracemalloc.start()
        with Staged() as held:
            read = read_messages(Endless(), "jsonl", name="m")
            held.add(line for line, _ in zip(read, range(count), strict=False))
            assert sum(1 for _ in held.messages(SALT)) == count
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(100)
    assert peak(10_000) < peak(100) + 100_000  # bytes; the lines themselves have 1,000,000
