# The hub in a container: `docker build -t virtual-llm .`; README.md and docs/docker.md say how to run it.
FROM rust:1.95-slim-bookworm AS build
# SQLite, ring, zstd and mimalloc are built from C, here for musl: the program is static.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev musl-tools && rm -rf /var/lib/apt/lists/* \
    && rustup target add "$(uname -m)-unknown-linux-musl"
ENV CC_x86_64_unknown_linux_musl=musl-gcc CC_aarch64_unknown_linux_musl=musl-gcc
WORKDIR /src
COPY . .
RUN cargo build --profile dist --locked --bin virtual-llm --target "$(uname -m)-unknown-linux-musl" \
    && cp target/*-unknown-linux-musl/dist/virtual-llm /virtual-llm

FROM debian:bookworm-slim
# Certificates for public rows, whose upstreams are called over https.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/virtual-llm --shell /usr/sbin/nologin virtual-llm \
    && install -d -o virtual-llm -g virtual-llm -m 700 /var/lib/virtual-llm
COPY --from=build /virtual-llm /usr/local/bin/virtual-llm
USER virtual-llm
VOLUME /var/lib/virtual-llm
EXPOSE 8787
# The image has no curl: bash sends the request.
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/8787 && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && head -1 <&3 | grep -q ' 200 '"]
ENTRYPOINT ["virtual-llm"]
# Loopback inside a container is the container's own; `docker run -p` decides who can reach the port.
CMD ["hub", "--listen", "0.0.0.0:8787", "--data-dir", "/var/lib/virtual-llm"]
