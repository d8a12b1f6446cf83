# cgckit on a CPU. Build: docker build -t cgckit .    Run, as yourself, on a folder of scans:
#   docker run --rm -u "$(id -u):$(id -g)" -v "$PWD:/data" cgckit refine scans/ --out refined/

FROM python:3.12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/cgckit
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN /opt/cgckit/bin/pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" "torch>=2.10,<2.14" "setuptools>=77" "pybind11>=2.13" ninja numpy wheel
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE /src/
COPY csrc /src/csrc
COPY cgckit /src/cgckit
RUN /opt/cgckit/bin/pip install --no-cache-dir --no-build-isolation /src

FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/cgckit /opt/cgckit
ENV PATH=/opt/cgckit/bin:$PATH MPLCONFIGDIR=/tmp/matplotlib HOME=/tmp
RUN useradd --create-home --uid 1000 cgckit
USER cgckit
WORKDIR /data
ENTRYPOINT ["cgckit"]
CMD ["--help"]
