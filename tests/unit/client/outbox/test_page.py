"""What docs/outbox.md shows does run."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[4] / "docs" / "outbox.md"


def test_its_program_sends_the_message(server, got, monkeypatch, tmp_path, capsys):
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CMZON_API_TOKEN", "cmz_a_token")
    monkeypatch.setenv("CMZON_BASE_URL", server.url)
    exec(re.sub(r'Client\(".*?"\)', 'Client("env:CMZON_API_TOKEN")', program), {})
    assert [message.key for message in got()] == ["parcel-1"]
    assert capsys.readouterr().out == "Summary(sent=1, unknown=0, dead=0, left=0)\n"
