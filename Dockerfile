# docker build -t fastgate .
# docker run -p 4000:4000 -e LITELLM_MASTER_KEY=... -v ./config.yaml:/etc/fastgate/config.yaml:ro fastgate

FROM python:3.13-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE ./
COPY fastgate fastgate
# The wheel and those of its dependencies, so that the second stage needs no network and no compiler.
RUN pip wheel --no-cache-dir --wheel-dir /wheels .

FROM python:3.13-slim-bookworm
LABEL org.opencontainers.image.title="fastgate" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels fastgate \
    && useradd --system --uid 10001 --home-dir /var/lib/fastgate --create-home fastgate
ENV FASTGATE_HOME=/var/lib/fastgate
WORKDIR /var/lib/fastgate
# By number: Kubernetes' runAsNonRoot can't tell that a name is not root.
USER 10001
VOLUME /var/lib/fastgate
EXPOSE 4000
# A drain takes as long as its longest stream: give `docker stop --time 600` if streams should finish.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
    CMD ["python", "-c", "import http.client as h, sys; c = h.HTTPConnection('127.0.0.1', 4000, timeout=2); c.request('GET', '/health/liveliness'); sys.exit(c.getresponse().status != 200)"]
# No init in front: the supervisor is process 1 and reaps its children.
ENTRYPOINT ["fastgate"]
# Bound to every address it refuses to start without a master key.
CMD ["serve", "--config", "/etc/fastgate/config.yaml", "--host", "0.0.0.0"]
