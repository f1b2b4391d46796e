# The `highwater` command: migrate, exporter, dashboard, and what operators type. A worker is a program of yours and has an
# image of its own: deploy/template has its Dockerfile.
#
#   docker build -t highwater:0.1.0 --build-arg VERSION=0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" .
#
# Other bases: both of one Debian release, for the command links the system's OpenSSL. A build image that has
# /out/highwater already is taken at its word and compiles nothing (.ci/images/command does that).
ARG BUILD_IMAGE=rust:1.95-bookworm
ARG RUN_IMAGE=debian:bookworm-slim

FROM ${BUILD_IMAGE} AS build
# What of Cargo's features the command has; a different list is a different program.
ARG FEATURES=cli
# The program carries the list of its parts, which scanners of images read; .ci/sbom prints it. "cargo build" leaves it out.
ARG CARGO_BUILD="cargo auditable build"
ARG CARGO_AUDITABLE=0.7.7
WORKDIR /source
COPY . .
# The official Rust image has all of these packages; a smaller one may not. librdkafka is compiled from its sources.
RUN if [ ! -x /out/highwater ]; then \
        set -eux; \
        apt-get update; \
        apt-get install -y --no-install-recommends gcc g++ make perl pkg-config libssl-dev; \
        case "$CARGO_BUILD" in *auditable*) \
            command -v cargo-auditable || cargo install --locked "cargo-auditable@$CARGO_AUDITABLE" ;; \
        esac; \
        $CARGO_BUILD --locked --release --features "$FEATURES" --bin highwater; \
        install -D -m 0755 target/release/highwater /out/highwater; \
        rm -rf target /var/lib/apt/lists/*; \
    fi

FROM ${RUN_IMAGE}
# libssl3 for Kafka's TLS and SASL, ca-certificates for whoever trusts the system's authorities. The name of the package
# changes with Debian's releases (libssl3t64 from trixie on).
ARG LIBSSL=libssl3
RUN set -eux; \
    apt-get update; \
    apt-get install -y --no-install-recommends ca-certificates "$LIBSSL"; \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/*.log /var/log/apt
COPY --from=build /out/highwater /usr/local/bin/highwater
# It starts, or there is no image.
RUN highwater version

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="highwater" \
      org.opencontainers.image.description="Exactly-once Kafka-to-Postgres sink framework: the command" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

# By number, so that Kubernetes can see that it is not root. It writes nowhere: the root file system may be read-only.
USER 65532:65532
WORKDIR /
EXPOSE 9480 9481
STOPSIGNAL SIGTERM
# One image, many commands. The two that serve listen here unless they are told otherwise, and are asked whether they are
# live; of one that does not listen, its end says more. No shell is needed. Kubernetes reads no HEALTHCHECK: it asks itself.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["/usr/local/bin/highwater", "probe", "live", "--if-listening", "--address", "127.0.0.1:9480", "--address", "127.0.0.1:9481"]
ENTRYPOINT ["/usr/local/bin/highwater"]
CMD ["--help"]
