"""Asks for two names on one connection, one after the other: two_names.py PORT."""

import socket
import sys

import h2.connection
import h2.events

sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5)
connection = h2.connection.H2Connection()
connection.initiate_connection()
for stream, name in ((1, "good.example"), (3, "evil.example")):
    head = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", name)]
    connection.send_headers(stream, head, end_stream=True)
    status, body, done = "", b"", False
    while not done:
        sock.sendall(connection.data_to_send())
        received = sock.recv(65536)
        if not received:
            break
        for event in connection.receive_data(received):
            if isinstance(event, h2.events.ResponseReceived):
                status = dict(event.headers)[b":status"].decode()
            elif isinstance(event, h2.events.DataReceived):
                body += event.data
            elif isinstance(event, h2.events.StreamEnded):
                done = True
    print(f"{stream}: {status} {body.decode()}")
