# fastdd for NVIDIA GPUs; the host needs a driver and the NVIDIA container toolkit:
# docker build -f docker/cuda.Dockerfile -t fastdd:cuda . && docker run --rm --gpus all --ipc host --user "$(id -u)" -v "$PWD:/work" fastdd:cuda run digits
FROM python:3.13-slim-bookworm AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

# CUDA's libraries come with torch's own package, so no image of CUDA is beneath.
FROM python:3.13-slim-bookworm
# Triton compiles its launchers with gcc, torch.compile its steps on the processor with g++; the versions are the distribution's.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends gcc g++ libc6-dev && rm -rf /var/lib/apt/lists/*
COPY --from=wheel /wheels /wheels
# hadolint ignore=DL3013
RUN wheel=$(ls /wheels/*.whl) && pip install --no-cache-dir "${wheel}[dali]"
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
# Caches of compilers go to /tmp, so that any --user will do.
ENV HOME=/tmp USER=fastdd
USER 1000
WORKDIR /work
ENTRYPOINT ["fastdd"]
CMD ["doctor"]
