# Two images of the same kind. This packs a binary that was built before
# (target/release/quorumscale), which takes seconds:
#
#   docker build --target prebuilt -t quorumscale .
#
# and this builds it from source, which takes about half an hour, for RocksDB:
#
#   docker build -t quorumscale .
#
# The server runs as a user without rights, needs no capability, and writes below
# /var/lib/quorumscale and /run/quorumscale alone: everything else can be read-only
# (docker-compose.yml).
#
# BASE may be any image of Debian 12 or newer, or of an Ubuntu that is as new.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS runtime
# A volume that is empty takes over these owners.
RUN install -d -m 700 -o 65532 -g 65532 /var/lib/quorumscale /run/quorumscale /etc/quorumscale /etc/quorumscale/cluster
USER 65532:65532
VOLUME /var/lib/quorumscale
ENV QUORUMSCALE_CONFIG=/etc/quorumscale/config.yaml
ENTRYPOINT ["quorumscale"]
CMD ["serve"]

FROM runtime AS prebuilt
COPY target/release/quorumscale /usr/local/bin/quorumscale

FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends libclang-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked

FROM runtime
COPY --from=build /src/target/release/quorumscale /usr/local/bin/quorumscale
