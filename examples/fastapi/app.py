"""A FastAPI app that tells customers that their order is on its way.

Run it with the variable CMZON_TOKEN_URI set: ``uvicorn app:app``.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse

from cmzon_secrets import AsyncClient
from cmzon_secrets.errors import CMzonSecretsError


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncClient(os.environ["CMZON_TOKEN_URI"]) as app.state.client:
        yield


app = FastAPI(lifespan=lifespan)
customers = {1001: "+1234567890"}  # of your database


@app.post("/orders/{number}/shipped", status_code=202)
async def shipped(number: int, request: Request) -> dict[str, str | None]:
    if number not in customers:
        raise HTTPException(404)
    client: AsyncClient = request.app.state.client
    # The key makes the second click on the button no second message.
    text, key = f"Order {number} is on its way.", f"shipped-{number}"
    result = await client.send_message(customers[number], text, idempotency_key=key)
    return {"message": result.id}


@app.exception_handler(CMzonSecretsError)
async def not_sent(request: Request, error: CMzonSecretsError) -> JSONResponse:
    return JSONResponse({"error": "message not sent"}, 503 if error.retryable else 502)
