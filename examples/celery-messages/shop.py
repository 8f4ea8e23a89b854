"""A Celery app that exists already, here of a shop, that writes to its customers by CMzon.

    export CELERY_BROKER_URL=redis://… CMZON_TOKEN_URI=… CMZON_ACCOUNT=shop
    celery -A shop worker -Q celery                                 # the shop's own work
    celery -A shop worker -Q messages-urgent,messages -c 16         # on as many machines as you like

A key is what the message is about, so that whoever queues it twice sends it once.
"""

from celery import Celery

from cmzon_secrets.runtimes.celery_messages import receipts, send_message

app = Celery("shop")

app.conf.task_routes = {send_message.name: {"queue": "messages"}}
app.conf.broker_transport_options = {
    "queue_order_strategy": "priority",  # Redis: in the order of -Q
    "visibility_timeout": 300,  # seconds; Redis: longer than any task of yours
}
app.conf.worker_prefetch_multiplier = 1  # what one worker holds back no other can do
app.conf.beat_schedule = {"look": {"task": "shop.queue_again_what_was_lost", "schedule": 3600.0}}


@app.task(name="shop.shipped")
def shipped(order: str) -> None:
    """The parcel is on its way."""
    send_message.delay(number_of(order), "Your order is on its way.", key=f"shipped-{order}")


@app.task(name="shop.log_in")
def log_in(login: str) -> None:
    """A code to log in with, which nobody wants to wait for, nor to get late."""
    send_message.apply_async(
        (number_of(login), "Your code is 314159."),
        {"key": f"code-{login}"},
        queue="messages-urgent",
        expires=120,
    )


@app.task(name="shop.queue_again_what_was_lost")
def queue_again_what_was_lost() -> None:
    """Queue every message that no worker ever began with: harmless for one that still waits."""
    for key, entry in receipts(*(f"shipped-{order}" for order in shipped_of_late())).items():
        if entry is None:
            shipped(key.removeprefix("shipped-"))


def number_of(thing: str) -> str:
    """Whose it is: a question for the shop's database."""
    return f"+1202555{int(thing):04}"


def shipped_of_late() -> list[str]:
    """Orders that were shipped some hours ago: a question for the shop's database."""
    return ["4711", "4712"]
