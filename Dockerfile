# The sidecar and the simulator of its upstream, in one small image that runs as nobody.
FROM rust:1.95.0-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin kling-balancer --bin kling-sim

# TLS roots are built in: the image needs no more than the C library.
FROM debian:12.12-slim
COPY --from=build /src/target/release/kling-balancer /src/target/release/kling-sim /usr/local/bin/
USER 65532:65532
ENTRYPOINT ["kling-balancer"]
CMD ["serve"]
