"""Where rotation runs by itself: functions of the clouds, and task queues. Thin, each one module."""
