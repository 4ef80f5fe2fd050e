# The hub in a container: `docker build -t virtual-llm .`; README.md and docs/docker.md say how to run it.
FROM rust:1.95-slim-bookworm AS build
# SQLite and ring are built from C.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --profile dist --locked --bin virtual-llm

FROM debian:bookworm-slim
# Certificates for public rows, whose upstreams are called over https.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/virtual-llm --shell /usr/sbin/nologin virtual-llm \
    && install -d -o virtual-llm -g virtual-llm -m 700 /var/lib/virtual-llm
COPY --from=build /src/target/dist/virtual-llm /usr/local/bin/virtual-llm
COPY LICENSE-MIT LICENSE-APACHE hub/src/console/vendor/*-LICENSE.txt /usr/share/doc/virtual-llm/
USER virtual-llm
VOLUME /var/lib/virtual-llm
EXPOSE 8787
# The image has no curl: bash sends the request.
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/8787 && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && head -1 <&3 | grep -q ' 200 '"]
ENTRYPOINT ["virtual-llm"]
# Loopback inside a container is the container's own; `docker run -p` decides who can reach the port.
CMD ["hub", "--listen", "0.0.0.0:8787", "--data-dir", "/var/lib/virtual-llm"]
