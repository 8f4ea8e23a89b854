"""A variable is seen by more than the program that was meant."""

import pytest

from cmzon_secrets import open_provider
from cmzon_secrets.errors import ConfigurationError
from cmzon_secrets.examinations import environment
from cmzon_secrets.uri import split


def test_who_sees_it_is_a_note_with_a_remedy(monkeypatch):
    monkeypatch.setenv("THE_TOKEN", "cmz_secret_value")
    with open_provider("env:THE_TOKEN") as provider:
        (finding,) = environment.examine(provider, "reader")
    with pytest.raises(ConfigurationError, match="needs no permission"):
        environment.policy(split("env:THE_TOKEN"), "reader")
    assert (finding.check, finding.severity) == ("permissions.visible", "note")
    assert "/proc" in finding.evidence
    assert "cmzon-secrets copy env:THE_TOKEN" in finding.remedy
    assert "cmz_secret_value" not in repr(finding)
