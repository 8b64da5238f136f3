# The agent's base image without what CUDA alone needs: the test's hosts have no GPU, and three of them hold a copy.
ARG BASE
FROM ${BASE} AS full
RUN cd /opt/lefleet/venv/lib/python3*/site-packages \
 && rm -rf torch/bin/ptxas torch/bin/protoc* torch/include nvidia/*/include nvidia/cu13/bin nvidia/cu13/nvvm \
 && find nvidia '(' -name 'libcudnn_*' -o -name 'libcusolverMg*' -o -name 'libnvperf*' -o -name '*.a' -o -name '*.bc' ')' -delete \
 && python -c 'import torch, lerobot, cv2, h5py, mujoco; print(torch.ones(2) @ torch.ones(2))'

FROM scratch
COPY --from=full / /
ENV PATH=/opt/lefleet/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1 \
    HF_HUB_DISABLE_TELEMETRY=1
