"""A gRPC server without generated code: prints its port, and echoes."""

from concurrent import futures

import grpc


def echo(request, context):
    return request


def answers(request, context):
    for _ in range(int(request)):
        yield request


def questions(requests, context):
    return str(sum(1 for _ in requests)).encode()


handlers = grpc.method_handlers_generic_handler(
    "test.Echo",
    {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Answers": grpc.unary_stream_rpc_method_handler(answers),
        "Questions": grpc.stream_unary_rpc_method_handler(questions),
    },
)
server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
server.add_generic_rpc_handlers((handlers,))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
server.wait_for_termination(60)
