"""The durable outbox: messages put in now, sent once, whatever ends in between."""

from __future__ import annotations

from cmzon_secrets.client.outbox.model import Record, State, Summary
from cmzon_secrets.client.outbox.outbox import Outbox

__all__ = ["Outbox", "Record", "State", "Summary"]
