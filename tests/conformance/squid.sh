#!/bin/sh
# Squid, intercepting, with peek and splice (wiki: Features/SslPeekAndSplice): the hello is read, allowed names are
# spliced, all else is ended. `host_verify_strict on` is stricter than the default: a name at another address than
# Squid's own look-up gives is refused, not only kept out of the cache.
set -eu
. "$(dirname "$0")/rules.sh"
redirect 80=3129 443=3130
folder=$CONFORMANCE_FOLDER
openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=squid.test \
    -keyout "$folder/squid.pem" -out "$folder/squid.crt" 2>/dev/null
cat "$folder/squid.crt" >>"$folder/squid.pem"
mkdir -p "$folder/log"
chmod 777 "$folder/log"
rm -f "$folder/squid.pid"
sed 's/^::\/127$/::1/' "$folder/private" >"$folder/private.squid"
cat >"$folder/squid.conf" <<S
http_port 127.0.0.1:3128
http_port 3129 intercept
https_port 3130 intercept ssl-bump tls-cert=$folder/squid.pem generate-host-certificates=off
visible_hostname squid.test
pid_filename $folder/squid.pid
cache_log $folder/log/cache.log
access_log none
cache deny all
dns_nameservers $CONFORMANCE_DNS
host_verify_strict on
shutdown_lifetime 0 seconds
acl clients src $CONFORMANCE_CLIENTS $CONFORMANCE_CLIENTS6
acl private dst "$folder/private.squid"
acl tls_port port 443
acl web_port port 80
acl CONNECT method CONNECT
acl named dstdomain -n "$folder/names"
acl hello ssl::server_name "$folder/names"
acl step1 at_step SslBump1
http_access deny !clients
http_access deny private
http_access deny CONNECT !tls_port
http_access allow CONNECT tls_port
http_access allow web_port named
http_access deny all
ssl_bump peek step1
ssl_bump splice hello
ssl_bump terminate all
S
[ "$(id -u)" != 0 ] || [ "$(wc -l </proc/self/uid_map)" != 1 ] || grep -q 4294967295 /proc/self/uid_map ||
    echo 'cache_effective_user root' >>"$folder/squid.conf"
exec squid -N -f "$folder/squid.conf"
