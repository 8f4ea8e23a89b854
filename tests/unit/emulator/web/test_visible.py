"""What a reader would not see of a text, or see in another place than it stands, is shown."""

import pytest

from cmzon_secrets.emulator.web.templates import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x00b\x1bc\x7fd", "a␀b␛c␡d"),
        ("a\r\nb\rc", "a␍\nb␍c"),
        ("\x80\x85\x9b31m\x9f", "⟨80⟩⟨85⟩⟨9B⟩31m⟨9F⟩"),
        ("\u202elive\u202c", "⟨RLO⟩live⟨PDF⟩"),
        ("\u202a\u202b\u202d", "⟨LRE⟩⟨RLE⟩⟨LRO⟩"),
        ("\u2066\u2067\u2068x\u2069", "⟨LRI⟩⟨RLI⟩⟨FSI⟩x⟨PDI⟩"),
        ("\u200e\u200f\u061c", "⟨LRM⟩⟨RLM⟩⟨ALM⟩"),
    ],
)
def test_control_characters_are_shown_as_pictures_or_marks(text, shown):
    assert visible(text) == shown


@pytest.mark.parametrize("text", ["one\n\ttwo", "👩‍👩‍👧‍👦 🏳️‍🌈", "مرحبا שלום (1)", "\u00a0é€"])
def test_what_a_writing_needs_stays_as_it_is(text):
    assert visible(text) == text
