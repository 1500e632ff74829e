# Everything a newcomer needs: `make demo` shows the gate at work, `make test` proves it.
# Both install what they need from Debian's packages when it is missing (they ask sudo if you are not root).

CARGO ?= cargo
# What running needs, and building.
RUN = nftables gcc libc6-dev
PACKAGES = $(RUN) iproute2 util-linux procps curl wget git openssl bind9-dnsutils unbound bind9 dnsdist knot-resolver systemd socat tmux python3 python3-h11 python3-h2 python3-grpcio python3-dnspython g++ make \
	nghttp2-client postgresql $(if $(shell command -v dockerd),,docker.io) $(if $(shell command -v docker-compose),,docker-compose) busybox-static iptables binutils

.PHONY: demo test check bench fuzz-smoke setup fmt doc deny clean

# Allowed connections pass, the classic bypasses die with a reason each: `namegate demo`, in a network of its own.
demo:
	@.ci/setup $(RUN)
	@$(CARGO) run --quiet --profile demo -- demo

# All of it: format, lints, unit tests, kernel tests in namespaces of their own, documentation, fuzz smoke.
test: setup check
	$(CARGO) test --all-targets
	$(CARGO) test --doc

check: fmt doc deny fuzz-smoke
	$(CARGO) clippy --all-targets -- -D warnings

fmt:
	$(CARGO) fmt --check

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --document-private-items --quiet

# Licences, sources and duplicates; `cargo install cargo-deny` brings the tool.
deny:
	@if command -v cargo-deny >/dev/null 2>&1; then $(CARGO) deny --offline check bans licenses sources; \
	else echo "cargo-deny is not installed: tests/licences.rs checks licences and sources"; fi

fuzz-smoke:
	tests/fuzz/smoke

# Micro benches, the sandbox, and the corridor beside HAProxy and dnsmasq: benches/corridor/main.rs says what it takes.
bench:
	@.ci/setup $(RUN) iproute2 util-linux bind9-dnsutils unbound haproxy dnsmasq-base dnsperf
	$(CARGO) bench

setup:
	@.ci/setup $(PACKAGES)

clean:
	$(CARGO) clean
