"""What `doctor` looks at, one file each: a scheme, the token, the API, an endpoint.

The examination of a scheme is a module with two functions; ``registry.py`` says which belongs to
which scheme, of a provider or of a key:

* ``policy(subject, role)``: the least permissions for it, its names filled in (``permissions``).
* ``examine(subject, role)``: findings, for a subject that may well not answer.

No probe changes anything, whatever the answer; none yields a value.
"""
