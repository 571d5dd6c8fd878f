# fastdd for processors, from the folder of the repository:
# docker build -f docker/cpu.Dockerfile -t fastdd:cpu . && docker run --rm --user "$(id -u)" -v "$PWD:/work" fastdd:cpu run digits
FROM python:3.13-slim-bookworm AS wheel
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim-bookworm
# torch.compile compiles its steps with g++; the version is the distribution's.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
# An index of torch's builds without CUDA makes the image some gigabytes smaller:
# --build-arg TORCH_INDEX=URL. Without it torch comes from pip's own index.
ARG TORCH_INDEX=""
COPY --from=wheel /wheels /wheels
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} /wheels/*.whl
# Caches of compilers go to /tmp, so that any --user will do.
ENV HOME=/tmp USER=fastdd
USER 1000
WORKDIR /work
ENTRYPOINT ["fastdd"]
CMD ["doctor"]
