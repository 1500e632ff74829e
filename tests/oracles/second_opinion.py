"""Other people's parsers, asked over pipes: OpenSSL (`tls`), h11 (`http`), dnspython (`dns`).

Reads cases from standard input, each after its length in four bytes, and writes one line of JSON a case.
"""

import json
import sys


def tls():
    """What OpenSSL would serve: the name, at the moment at which it would pick a certificate by it."""
    import ssl

    seen = []

    def called(_connection, name, _context):
        seen.append(name)
        return ssl.ALERT_DESCRIPTION_HANDSHAKE_FAILURE

    # A name that is no ASCII never gets as far as `called`; OpenSSL has acted on it all the same.
    sys.unraisablehook = lambda _error: seen.append("\ufffd")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.sni_callback = called

    def view(case):
        seen.clear()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        connection = context.wrap_bio(incoming, outgoing, server_side=True)
        incoming.write(case)
        try:
            connection.do_handshake()
        except ssl.SSLError:
            pass
        return {"acts": bool(seen), "name": seen[0] if seen else None}

    return view


def http():
    """How h11 frames the requests of a connection: [start, end of head's request or null, hosts]."""
    import h11

    def view(case):
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        # Nothing at all would be the end of the stream.
        if case:
            connection.receive_data(case)
        requests, error = [], None
        here = lambda: len(case) - len(connection.trailing_data[0])
        try:
            while True:
                start, event = here(), connection.next_event()
                if event in (h11.NEED_DATA, h11.PAUSED):
                    break
                if isinstance(event, h11.Request):
                    hosts = [value.decode("latin-1") for name, value in event.headers if name == b"host"]
                    target = event.target.decode("latin-1")
                    requests.append({"start": start, "end": None, "hosts": hosts, "target": target})
                if isinstance(event, h11.EndOfMessage):
                    requests[-1]["end"] = here()
                    connection.send(h11.Response(status_code=204, headers=[]))
                    connection.send(h11.EndOfMessage())
                    if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                        error = "closes"
                        break
                    connection.start_next_cycle()
        except h11.ProtocolError as fault:
            error = str(fault)
        return {"requests": requests, "error": error}

    return view


def dns():
    """What dnspython reads in an answer, and where the chain from its question leads."""
    import dns.exception
    import dns.message
    import dns.opcode
    import dns.rdataclass
    import dns.rdatatype

    kinds = (dns.rdatatype.A, dns.rdatatype.AAAA)

    def plain(name):
        return ".".join(label.decode("latin-1").lower() for label in name.labels if label)

    def view(case):
        try:
            message = dns.message.from_wire(case, one_rr_per_rrset=True)
        except (dns.exception.DNSException, ValueError, IndexError) as fault:
            return {"error": f"{type(fault).__name__}: {fault}"}
        if message.opcode() != dns.opcode.QUERY or len(message.question) != 1:
            return {"error": "no question"}
        asked = message.question[0]
        records = [(one.name, one.rdtype, one.ttl, one[0]) for one in message.answer if one.rdclass == dns.rdataclass.IN]
        at, chain, least = asked.name, [asked.name], 0xFFFFFFFF
        leads = True
        while leads:
            aliases = [(ttl, data.target) for owner, kind, ttl, data in records if owner == at and kind == dns.rdatatype.CNAME]
            if not aliases:
                break
            leads = len(aliases) == 1 and aliases[0][1] not in chain
            if leads:
                least, at = min(least, aliases[0][0]), aliases[0][1]
                chain.append(at)
        homes = [(ttl, data.address) for owner, kind, ttl, data in records if owner == at and kind in kinds] if leads else []
        return {
            "name": plain(asked.name),
            "qtype": int(asked.rdtype),
            "id": message.id,
            "rcode": int(message.rcode()),
            "chain": [plain(name) for name in chain],
            "addresses": [[address, min(ttl, least)] for ttl, address in homes],
        }

    return view


def main():
    view = {"tls": tls, "http": http, "dns": dns}[sys.argv[1]]()
    print(json.dumps("ready"), flush=True)
    while len(length := sys.stdin.buffer.read(4)) == 4:
        print(json.dumps(view(sys.stdin.buffer.read(int.from_bytes(length, "big")))))


main()
