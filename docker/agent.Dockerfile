# The agent's code on its base image (agent-base.Dockerfile). Needs no network. From the repository's root:
#
#   docker build -f docker/agent.Dockerfile --build-arg BASE=lefleet-agent-base -t lefleet-agent .
ARG BASE
FROM ${BASE}

RUN groupadd --gid 10001 lefleet \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin lefleet

COPY agent/lefleet_agent /opt/lefleet/agent/lefleet_agent
# The policy of the demo: with it and the simulated arm the image works without anything else.
COPY agent/demo/checkpoint /opt/lefleet/demo/checkpoint
RUN set -eu; cd /opt/lefleet; \
    echo /opt/lefleet/agent > "$(venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/lefleet-agent.pth"; \
    printf '#!/opt/lefleet/venv/bin/python\nfrom lefleet_agent.__main__ import main\n\nif __name__ == "__main__":\n    main()\n' > venv/bin/lefleet-agent; \
    chmod 0755 venv/bin/lefleet-agent; \
    venv/bin/python -m compileall -q agent; \
    venv/bin/lefleet-agent --help > /dev/null

ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="lefleet-agent" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"

USER 10001:10001
ENTRYPOINT ["lefleet-agent"]
