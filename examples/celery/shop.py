"""A Celery app that exists already, here of a shop, with the rotation of its CMzon tokens added.

    export CELERY_BROKER_URL=redis://… CELERY_RESULT_BACKEND=redis://…
    export CMZON_SECRETS_CONFIG=/etc/cmzon-secrets/cmzon-secrets.toml
    celery -A shop worker -Q celery,emergency
    celery -A shop beat

An alert kills a leaked token, from any program that reaches the broker:
``app.send_task("cmzon_secrets.revoke", ["acme", "tok_…"], queue="emergency")``.
"""

from celery import Celery

app = Celery("shop", include=["cmzon_secrets.runtimes.celery"])

app.conf.beat_schedule = {
    "rotate": {
        "task": "cmzon_secrets.rotate_fleet",
        "schedule": 3600.0,  # seconds; much shorter than any grace
        "kwargs": {"jitter": 300.0},  # seconds within which the accounts begin
    }
}
app.conf.broker_transport_options = {
    "visibility_timeout": 3600
}  # seconds; longer than a whole fan-out
app.conf.task_routes = {"cmzon_secrets.revoke": {"queue": "emergency"}}
app.conf.task_annotations = {"cmzon_secrets.rotate_account": {"rate_limit": "5/s"}}  # each worker
app.conf.worker_prefetch_multiplier = 1  # what one worker holds back no other can do
