# A worker in a container: docker build -t worker-state .   (docs/how-to/container.md)
# The base: any Debian or Ubuntu with Python 3.11 or newer and its venv module.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /build
RUN python3 -m venv /opt/worker
COPY requirements-image.lock ./
# Packages from an index of your own: --secret id=pip.conf,src=pip.conf. That file does not get into the image.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    /opt/worker/bin/pip install --no-cache-dir --require-hashes -r requirements-image.lock
COPY pyproject.toml README.md LICENSE ./
COPY docs/package_page.py docs/
COPY src src
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    /opt/worker/bin/pip install --no-cache-dir --no-deps .

FROM ${BASE}
# A user with a name and a home, which some libraries ask for; by its number, so that Kubernetes sees that it is not root.
RUN useradd --no-log-init --uid 10001 --user-group --create-home worker && mkdir /app
COPY --from=build /opt/worker /opt/worker
ENV PATH=/opt/worker/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /app
USER 10001:10001
# Healthy: the loop is alive. A server that is away is no reason to start the worker again.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/opt/worker/bin/python", "-I", "-c", \
    "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8790, timeout=3); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]
# Exec form: the worker is process 1 and gets the SIGTERM of `stop`. What you add are further arguments: your handler.
ENTRYPOINT ["worker-state", "run", "--wait", "--withhold-session-string", "--health", "8790"]
