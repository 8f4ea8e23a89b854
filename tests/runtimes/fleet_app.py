"""The standalone app, where Redis takes a worker for dead within seconds instead of minutes.

``WARM_ACCOUNT`` is rotated before the worker forks its processes, so that they inherit open
connections, caches and locks.
"""

import os

from cmzon_secrets.runtimes.celery import app, rotate_account

app.conf.broker_transport_options = {
    "visibility_timeout": 8,
    "unacked_restore_interval": 1,
    "unacked_restore_throttle": 1,
}

if "WARM_ACCOUNT" in os.environ:
    rotate_account(os.environ["WARM_ACCOUNT"])
