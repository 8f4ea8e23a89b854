"""A proxy that tunnels with CONNECT (RFC 9110 §9.3.6), or does not."""

import base64

from servers.told_server import told


def connect_proxy(port, *, user=None, password=None):
    """Tunnels everything to a port of this machine, whatever was asked for. ``heard`` are the CONNECT
    requests, ``passed`` is what went through the tunnel. With a user it wants that one's password."""
    credentials = base64.b64encode(f"{user}:{password}".encode())
    wanted = b"proxy-authorization: basic " + credentials.lower()

    def script(conversation):
        asked = conversation.hear()
        if user is not None and wanted not in asked.lower():
            # As rude as can be: it repeats what it was sent.
            given = asked.partition(b"Authorization: ")[2].partition(b"\r")[0]
            conversation.say(
                b"HTTP/1.1 407 wanted: " + credentials + b"; given: " + given + b"\r\n"
                b"Proxy-Authenticate: Basic\r\nX-Given: " + given + b"\r\nContent-Length: 0\r\n\r\n"
            )
        elif asked.startswith(b"CONNECT "):
            conversation.say(b"HTTP/1.1 200 Connection established\r\n\r\n")
            conversation.tunnel(port)

    return told(script)
