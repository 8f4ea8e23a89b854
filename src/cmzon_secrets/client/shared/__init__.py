"""Limits that processes and hosts keep together, through a Redis; ``limits`` tells how.

``server`` is the Redis and ``script.lua`` what it decides, ``mistakes`` why it never answers, ``line`` one
process's way there with its ``report``, ``clock`` the server's time in ours, ``slots`` what was granted,
``share`` what is sent without.
"""
