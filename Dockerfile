# noisy-pairs, with the pinned packages, for GPUs of NVIDIA and for CPUs. docs/slurm.md says how to build and run it.
FROM python:3.12-slim

# For a smaller image without GPUs: the address of a package index that has torch and torchvision for CPUs.
ARG TORCH_INDEX=

# A compiler, with which torch.compile builds its kernels; KubeRay asks with wget whether a node is well.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ wget \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /noisy-pairs
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN pip install --no-cache-dir --constraint constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch torchvision

COPY analysis analysis/
COPY datasets datasets/
COPY sweep sweep/
COPY trainables trainables/
RUN pip install --no-cache-dir --constraint constraints.txt --editable '.[cluster]'

ENV PYTHONUNBUFFERED=1
ENTRYPOINT ["python", "-m"]
CMD ["sweep.run", "--help"]
