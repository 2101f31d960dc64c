# The sidecar and the simulator of its upstream, in one small image that runs as nobody.
FROM rust:1.95.0-slim-bookworm AS build
# The allocator is built with make.
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# Line tables are four fifths of the program; the image does without.
ENV CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_STRIP=debuginfo
COPY . .
# The caches keep downloaded and compiled crates from one build to the next, so that an edit costs what it
# changes. They are no part of the image: the programs are copied out of them. (BuildKit: Docker 23 or newer.)
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --bin kling-balancer --bin kling-sim \
    && mkdir /programs \
    && cp target/release/kling-balancer target/release/kling-sim /programs/

# TLS roots are built in: the image needs no more than the C library. upstream.ca_file names further ones.
FROM debian:12.12-slim
COPY --from=build /programs/ /usr/local/bin/
# Where a volume for state.path goes: a new one takes its owner and mode from here.
RUN install --directory --owner=65532 --group=65532 --mode=0700 /var/lib/kling-balancer
USER 65532:65532
ENTRYPOINT ["kling-balancer"]
CMD ["serve"]
