"""What a reader would not see of a text, or see in another place than it stands, is shown."""

import pytest

from cmzon_secrets.emulator.web.visible import as_on_a_phone, visible


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


@pytest.mark.parametrize(
    "text",
    [
        "שלום\u200f! עולם",
        "price \u200e100 ₪ \u061c١",
        "\u2067שלום\u2069 \u2066one \u2068two\u2069\u2069\n\u2068three\u2069",
    ],
)
def test_in_a_message_stays_what_phones_heed_and_what_reaches_no_further_than_its_text(text):
    assert as_on_a_phone(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x00b\x85", "a␀b⟨85⟩"),
        ("\u202elive\u202c \u202a\u202b\u202d", "⟨RLO⟩live⟨PDF⟩ ⟨LRE⟩⟨RLE⟩⟨LRO⟩"),
        ("\u2066one \u2067two\u2069", "⟨LRI⟩one \u2067two\u2069"),
        ("one\u2069 \u2068two\u2069\u2069", "one⟨PDI⟩ \u2068two\u2069⟨PDI⟩"),
        ("\u2066one\ntwo\u2069", "⟨LRI⟩one\ntwo⟨PDI⟩"),
    ],
)
def test_in_a_message_too_is_shown_what_deceives_or_could_reach_beyond_its_text(text, shown):
    assert as_on_a_phone(text) == shown
