"""A Django view that tells a customer that their order is on its way.

    export DJANGO_SETTINGS_MODULE=settings CMZON_TOKEN_URI=… WEB_CONCURRENCY=4
    gunicorn --preload shop:application

One client for each process: it opens nothing before the first message, so it survives the fork.
"""

import logging
import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import Http404, HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.http import require_POST

from cmzon_secrets import Client, RateLimits
from cmzon_secrets.errors import CMzonSecretsError

WORKERS = int(os.environ.get("WEB_CONCURRENCY", "1"))  # they share the account's limits

application = get_wsgi_application()
client = Client(
    settings.CMZON_TOKEN_URI,
    limits=RateLimits(per_second=80 // WORKERS, per_day=10_000 // WORKERS),
)
customers = {1001: "+1234567890"}  # a model of yours


@require_POST
def shipped(request: HttpRequest, number: int) -> JsonResponse:
    if number not in customers:
        raise Http404
    text, key = f"Order {number} is on its way.", f"shipped-{number}"
    try:  # the key makes the second click on the button no second message
        result = client.send_message(customers[number], text, idempotency_key=key)
    except CMzonSecretsError as error:
        logging.getLogger(__name__).warning("message not sent: %s", error)  # it holds no token
        return JsonResponse({"error": "not sent"}, status=503 if error.retryable else 502)
    return JsonResponse({"message": result.id}, status=202)


urlpatterns = [path("orders/<int:number>/shipped", shipped)]
