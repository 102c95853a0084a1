# The binary alone on Debian. `docker build -t tidemill .`
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/target \
    CARGO_TARGET_DIR=/target cargo build --release --locked --features tls-vendored && cp /target/release/tidemill /tidemill

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* && \
    useradd --uid 10001 --create-home tidemill && install -d -o tidemill /data
COPY --from=build /tidemill /usr/local/bin/tidemill
USER tidemill
WORKDIR /data
VOLUME /data
EXPOSE 9464
ENTRYPOINT ["tidemill"]
CMD ["run", "--listen", "0.0.0.0:9464"]
