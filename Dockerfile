# The hub in a container: `docker build -t virtual-llm .`; README.md and docs/docker.md say how to run it.
FROM rust:1.95-slim-bookworm AS build
# What packaging/tarball.sh needs for a static program: SQLite, ring, zstd and mimalloc are built from C.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev musl-tools binutils && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN packaging/tarball.sh && mv target/tarball/virtual-llm-*-x86_64-linux /package

# Nothing of this image is used but certificates, for public rows over https, and busybox, for a look inside.
FROM alpine:3.22
RUN mkdir -m 700 /var/lib/virtual-llm && chown 10001:10001 /var/lib/virtual-llm
COPY --from=build /package/virtual-llm /usr/local/bin/virtual-llm
COPY --from=build /package/LICENSE-* /package/*-LICENSE.txt /usr/share/doc/virtual-llm/
USER 10001:10001
VOLUME /var/lib/virtual-llm
EXPOSE 8787
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8787/readyz"]
ENTRYPOINT ["virtual-llm"]
# Loopback inside a container is the container's own; `docker run -p` decides who can reach the port.
CMD ["hub", "--listen", "0.0.0.0:8787", "--data-dir", "/var/lib/virtual-llm"]
