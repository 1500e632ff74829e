#!/bin/sh
# HAProxy: `mode tcp` with a list of names for TLS, `mode http` for requests in clear; both go on to the address that
# the client dialled ("server ... 0.0.0.0", configuration manual 5.2). What speaks first goes to its server by name.
# With RESOLVE=1 it dials what it resolves the name to itself, as the manual's example of `do-resolve` has it.
set -eu
. "$(dirname "$0")/rules.sh"
family="meta nfproto ipv4"
redirect 80=8080 443=8443 25=8025 5432=8432
redirect6 80=8080 443=8443

resolve_tls= resolve_http=
if [ "${RESOLVE:-0}" = 1 ]; then
    resolve_tls='
    tcp-request content do-resolve(txn.dst,dns,ipv4) req.ssl_sni
    tcp-request content reject unless { var(txn.dst) -m found }
    tcp-request content set-dst var(txn.dst)'
    resolve_http='
    http-request do-resolve(txn.dst,dns,ipv4) hdr(host),host_only,lower
    http-request deny unless { var(txn.dst) -m found }
    http-request set-dst var(txn.dst)'
fi
cat >"$CONFORMANCE_FOLDER/haproxy.cfg" <<H
global
    maxconn 4096
defaults
    timeout connect 5s
    timeout client 1m
    timeout server 1m
resolvers dns
    nameserver one $CONFORMANCE_DNS:53
    accepted_payload_size 1232
frontend tls
    mode tcp
    bind 0.0.0.0:8443
    bind [::]:8443 v6only transparent
    tcp-request inspect-delay 5s
    acl allowed req.ssl_sni -i -f $CONFORMANCE_FOLDER/names
    tcp-request content reject unless { req.ssl_hello_type 1 } allowed
$resolve_tls
    tcp-request content reject if { dst -f $CONFORMANCE_FOLDER/private }
    default_backend tls_original
backend tls_original
    mode tcp
    server original 0.0.0.0
frontend web
    mode http
    bind 0.0.0.0:8080
    bind [::]:8080 v6only transparent
    acl allowed hdr(host),host_only,lower -m str -f $CONFORMANCE_FOLDER/names
    http-request deny if METH_CONNECT
    http-request deny unless allowed
$resolve_http
    http-request deny if { dst -f $CONFORMANCE_FOLDER/private }
    default_backend web_original
backend web_original
    mode http
    server original 0.0.0.0
listen mail
    mode tcp
    bind 0.0.0.0:8025
    server mail $CONFORMANCE_MAIL:25 resolvers dns init-addr none
listen database
    mode tcp
    bind 0.0.0.0:8432
    server database database.example.com:5432 resolvers dns init-addr none
H
exec haproxy -db -f "$CONFORMANCE_FOLDER/haproxy.cfg"
