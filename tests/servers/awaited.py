"""An AsyncClient as a Client: each method awaited, so that one test is about both."""

import asyncio
import threading

from cmzon_secrets.client.async_client import AsyncClient


class Awaited:
    """Runs the client in an event loop of a thread of its own. Any number of threads may call it."""

    def __init__(self, *args, **kwargs):
        self.client = AsyncClient(*args, **kwargs)
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def send_message(self, *args, **kwargs):
        return self.run(self.client.send_message(*args, **kwargs))

    def request(self, *args, **kwargs):
        return self.run(self.client.request(*args, **kwargs))

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def close(self):
        self.run(self.client.close())

    def __getattr__(self, name):
        return getattr(self.client, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()

    def __repr__(self):
        return repr(self.client)
