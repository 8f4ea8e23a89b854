"""Code that uses HTTPX2 (or HTTPX, the same way): one argument gives its client the current token."""

import asyncio
import os

import httpx2

from cmzon_secrets.integrations.httpx_auth import TokenAuth

API = os.environ.get("CMZON_BASE_URL", "https://api.cmzon.com")
client = httpx2.AsyncClient(base_url=API, auth=TokenAuth(os.environ["CMZON_TOKEN_URI"]))


async def send_message(to: str, text: str) -> httpx2.Response:
    body = {"to": to, "type": "text", "text": {"body": text}}
    return await client.post("/v1/messages", json=body)


async def main() -> None:
    async with client:
        print((await send_message("+1234567890", "Hello from CMzon!")).json())


if __name__ == "__main__":
    asyncio.run(main())
