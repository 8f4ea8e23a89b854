"""Sending messages: the client, its limits, and what a call gives back.

``async_client`` is imported by who awaits.
"""

from __future__ import annotations

from cmzon_secrets.client.limits import RateLimits
from cmzon_secrets.client.results import Response, SendResult
from cmzon_secrets.client.sync_client import Client
from cmzon_secrets.client.usage import Usage

__all__ = ["Client", "RateLimits", "Response", "SendResult", "Usage"]
