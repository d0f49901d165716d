# Prediction in a container: the base installation of this clone, without TensorFlow.
#
#   docker build -t facekp .
#   docker run --rm -v "$PWD:/work" facekp predict photo.jpg --out found
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml settings.ini README.md LICENSE LICENSE-WEIGHTS.md ./
COPY facekp ./facekp
RUN python -m venv /opt/facekp && /opt/facekp/bin/pip install --no-cache-dir .

FROM python:3.12-slim
COPY --from=build /opt/facekp /opt/facekp
ENV PATH=/opt/facekp/bin:$PATH
# photos are mounted here; to own the results, run the container as yourself: docker run --user "$(id -u):$(id -g)" ...
WORKDIR /work
RUN useradd --create-home facekp
USER facekp
ENTRYPOINT ["facekp"]
CMD ["--help"]
