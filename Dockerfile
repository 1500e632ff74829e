# The gate as an image: one static program, `nft`, and nothing else. No shell, no package manager, no libc but nft's.
#
#   docker build -t namegate .
#
# Where no registry can be reached, GATE and LOADER name local images that hold the same files under /out as the stages
# of that name make: --build-arg GATE=... --build-arg LOADER=...
ARG RUST=rust:1.90-slim-bookworm
ARG DEBIAN=debian:bookworm-slim
ARG GATE=built
ARG LOADER=collected

FROM ${RUST} AS built
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY benches benches
COPY src src
# The target is named so that only the program is linked statically, not what runs while it is compiled.
RUN host="$(rustc -vV | sed -n 's/^host: //p')" \
 && RUSTFLAGS="-C target-feature=+crt-static -C strip=symbols" cargo build --release --locked --bin namegate --target "$host" \
 && install -D "target/$host/release/namegate" /out/namegate

# The ruleset is text that `nft` loads in one transaction: an operator can read it, and its errors are nft's own. So nft
# is there, with exactly the libraries it is linked with.
FROM ${DEBIAN} AS collected
RUN apt-get update && apt-get install -y --no-install-recommends nftables \
 && mkdir /out && cp --parents --dereference /usr/sbin/nft $(ldd /usr/sbin/nft | grep -o '/[^ ]*') /out

FROM ${GATE} AS gate
FROM ${LOADER} AS loader

FROM scratch
COPY --from=loader /out/ /
COPY --from=gate /out/ /
ENV PATH=/usr/sbin
# Root of the container, for CAP_NET_ADMIN reaches nobody else there. It needs no other capability, no writable file and
# no new privilege: docker-compose.yml takes them away.
ENTRYPOINT ["/namegate"]
CMD ["serve"]
