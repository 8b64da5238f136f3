# Everything the agent runs on: system libraries, Python 3.12 or 3.13, torch, LeRobot. Changes with agent/requirements.txt;
# the agent's own code is a small layer on top (agent.Dockerfile). From the repository's root:
#
#   docker build -f docker/agent-base.Dockerfile --build-arg SYSTEM=python:3.12-slim -t lefleet-agent-base .
#
# On a Jetson SYSTEM is NVIDIA's l4t-jetpack image (r36.4.x) by digest, and torch comes from docker/wheels/ or TORCH_INDEX.
# Two files rather than two targets: Docker's classic builder would build this one again for each change of the code.
ARG SYSTEM
FROM ${SYSTEM}

# osmesa and egl: the simulated arm's cameras. speech-dispatcher: `spd-say`, by which LeRobot speaks its prompts.
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
      ca-certificates libosmesa6 libegl1 libgl1 libglx-mesa0 libgl1-mesa-dri libgomp1 \
      libpulse0 pulseaudio-utils speech-dispatcher speech-dispatcher-espeak-ng espeak-ng v4l-utils \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*.log /var/log/apt

# The system's Python where it is new enough; else (JetPack 6 has 3.10) a standalone build, pinned.
ARG PYTHON_VERSION=3.12.12
ARG UV_VERSION=0.9.5
RUN set -eu; python=python3; \
    if ! python3 -c 'import ensurepip, sys, venv; raise SystemExit(not (3, 12) <= sys.version_info < (3, 14))'; then \
      apt-get update; \
      DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3 python3-venv; \
      python3 -m venv /tmp/uv; \
      /tmp/uv/bin/pip install --no-cache-dir "uv==${UV_VERSION}"; \
      UV_PYTHON_INSTALL_DIR=/opt/lefleet/python /tmp/uv/bin/uv python install --no-bin "${PYTHON_VERSION}"; \
      python="$(UV_PYTHON_INSTALL_DIR=/opt/lefleet/python /tmp/uv/bin/uv python find --no-project "${PYTHON_VERSION}")"; \
      rm -rf /tmp/uv /var/lib/apt/lists/*; \
    fi; \
    "$python" -m venv /opt/lefleet/venv

# torch from the same index as the rest; from TORCH_INDEX; or from wheels in docker/wheels/. All versions are pinned and
# nothing is resolved (--no-deps): else pip would swap the torch of this machine's CUDA for the index's.
ARG TORCH_INDEX=
# Pinned packages that this machine does without, by name.
ARG LEAVE_OUT=
COPY agent/requirements.txt docker/requirements.py docker/wheels/ /tmp/requirements/
RUN set -eu; cd /tmp/requirements; pip="/opt/lefleet/venv/bin/pip --disable-pip-version-check --no-input"; \
    set -- ${LEAVE_OUT}; \
    if [ -n "${TORCH_INDEX}" ]; then \
      $pip install --no-cache-dir --no-deps --index-url "${TORCH_INDEX}" $(grep -E '^(torch|torchvision)==' requirements.txt); \
      set -- "$@" torch torchvision; \
    fi; \
    if ls ./*.whl >/dev/null 2>&1; then \
      $pip install --no-cache-dir --no-deps --no-index ./*.whl; \
      set -- "$@" ./*.whl; \
    fi; \
    /opt/lefleet/venv/bin/python requirements.py requirements.txt "$@" > rest.txt; \
    $pip install --no-cache-dir --no-deps -r rest.txt; \
    rm -rf /tmp/requirements

ENV PATH=/opt/lefleet/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HUB_DISABLE_TELEMETRY=1
