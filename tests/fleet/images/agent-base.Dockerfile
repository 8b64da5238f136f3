# The agent's base image without what CUDA alone needs: the test's hosts have no GPU, and each holds a copy.
ARG BASE
FROM ${BASE} AS stand-ins
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
COPY cuda-stand-ins.py /tmp/
RUN python /tmp/cuda-stand-ins.py /opt/lefleet/venv/lib/python3*/site-packages /tmp/stand-ins \
 && rm /tmp/stand-ins/stand-in.*

FROM ${BASE} AS small
RUN cd /opt/lefleet/venv/lib/python3*/site-packages \
 && rm -rf torch/bin/ptxas torch/bin/protoc* torch/include nvidia/*/include nvidia/cu13/bin nvidia/cu13/nvvm \
 && find nvidia '(' -name 'libcudnn_*' -o -name 'libcusolverMg*' -o -name 'libnvperf*' -o -name '*.a' -o -name '*.bc' ')' -delete
COPY --from=stand-ins /tmp/stand-ins /tmp/stand-ins
RUN cp -r /tmp/stand-ins/. /opt/lefleet/venv/lib/python3*/site-packages/nvidia/ && rm -rf /tmp/stand-ins \
 && python -c 'import torch, lerobot, cv2, h5py, mujoco; print(torch.ones(2) @ torch.ones(2)); assert not torch.cuda.is_available()'

FROM scratch
COPY --from=small / /
ENV PATH=/opt/lefleet/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1 \
    HF_HUB_DISABLE_TELEMETRY=1
