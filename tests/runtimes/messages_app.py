"""The app of ``test_celery_messages_machines``.

It shows all that Celery can, kills tasks of others early, and misses a dead machine soon.
"""

from cmzon_secrets.runtimes import celery_messages
from cmzon_secrets.runtimes.celery_messages import app

celery_messages.LONGEST = 1.0

app.conf.update(
    result_extended=True,
    task_soft_time_limit=1,
    task_time_limit=2,
    task_track_started=True,
    worker_send_task_events=True,
    broker_transport_options={
        **app.conf.broker_transport_options,
        "visibility_timeout": 10,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    },
)
