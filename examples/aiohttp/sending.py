"""aiohttp, the token asked for at each message; a 401 is answered once, with another token.

async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
    await send_message(session, "+1234567890", "Hello from CMzon!")
"""

import asyncio
import os

import aiohttp

from cmzon_secrets import Token, TokenCache, open_provider

MESSAGES = os.environ.get("CMZON_BASE_URL", "https://api.cmzon.com") + "/v1/messages"
cache = TokenCache(open_provider())  # $CMZON_TOKEN_URI


async def send_message(session: aiohttp.ClientSession, to: str, text: str) -> object:
    body = {"to": to, "type": "text", "text": {"body": text}}
    token = await _current()
    status, answer = await _post(session, body, token)
    if status == 401:
        cache.invalidate(token)
        another = await _current()
        if another != token:  # never the same token twice
            status, answer = await _post(session, body, another)
    return answer


async def _current() -> Token:
    if (token := cache.peek()) is not None:
        return token
    return await asyncio.to_thread(cache.get)  # no backend holds up the event loop


async def _post(session: aiohttp.ClientSession, body: object, token: Token) -> tuple[int, object]:
    headers = {"Authorization": f"Bearer {token.reveal()}"}
    async with session.post(MESSAGES, json=body, headers=headers, allow_redirects=False) as answer:
        return answer.status, await answer.json()
