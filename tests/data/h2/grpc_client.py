"""Calls the echo server: grpc_client.py ADDRESS AUTHORITY."""

import sys

import grpc

address, authority = sys.argv[1:]
options = [("grpc.default_authority", authority)]
with grpc.insecure_channel(address, options=options) as channel:
    try:
        call = channel.unary_unary("/test.Echo/Echo")
        payload = b"x" * 10_000
        unary = sum(call(payload, timeout=10) == payload for _ in range(100))
        answers = sum(1 for _ in channel.unary_stream("/test.Echo/Answers")(b"50", timeout=10))
        questions = channel.stream_unary("/test.Echo/Questions")
        asked = questions((b"y" * 5000 for _ in range(50)), timeout=10)
        print(f"unary {unary}, answers {answers}, questions {asked.decode()}")
    except grpc.RpcError as error:
        print(error.code(), error.details())
