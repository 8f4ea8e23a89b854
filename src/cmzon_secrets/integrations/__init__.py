"""For programs that keep their own HTTP library: its requests get the current token.

``requests_auth`` and ``httpx_auth`` are auth objects, ``vendor_example`` is the class of the vendor's
page; ``authorizing`` holds the rules that they share.
"""
