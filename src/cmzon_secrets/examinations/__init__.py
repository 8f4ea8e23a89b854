"""What `doctor` looks at, one file each: a scheme, the token, the API, an endpoint.

The examination of a scheme is a module with two functions; ``registry.py`` says which belongs to
which scheme, of a provider or of a key:

* ``policy(location, role)``: the least permissions for a URI, its names filled in (``permissions``).
* ``examine(subject, role)``: findings, for a subject that may well not answer.

Two more where they mean something (`registry.Examination`): ``examine_wrapped(subject)``, what can be
said without reading where reading would use up a credential; and ``leave(subject)``, which gives back
what was got for the examination, at its end.

No probe changes anything, whatever the answer; none yields a value.
"""
