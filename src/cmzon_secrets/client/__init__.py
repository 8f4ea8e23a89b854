"""Sending messages: the client, its limits, and what a call gives back."""

from __future__ import annotations

from cmzon_secrets.client.exchange import Response, SendResult
from cmzon_secrets.client.limits import RateLimits
from cmzon_secrets.client.sync_client import Client

__all__ = ["Client", "RateLimits", "Response", "SendResult"]
