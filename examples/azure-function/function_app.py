"""Rotates every token that is due, once an hour. docs/azure-function.md says how to deploy it."""

import azure.functions as func

from cmzon_secrets.runtimes.azure_function import run_schedule

app = func.FunctionApp()


@app.timer_trigger(schedule="0 17 * * * *", arg_name="timer", use_monitor=True)
def rotate(timer: func.TimerRequest) -> None:  # a late run needs nothing else
    """Seventeen minutes past each hour, when fewer others begin."""
    run_schedule()
