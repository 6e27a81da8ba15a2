# Two images of one environment. `python`: every Python service and the set-up steps. `connect`: Kafka Connect with Debezium, its JRE from
# the same locked environment and its jars from connect/jars.lock. Built by docker-compose.yml; see deploy/README.md.
FROM python:3.11.13-slim-bookworm AS python
WORKDIR /opt/weir
COPY requirements/bootstrap.lock requirements/runtime.lock requirements/dataset.lock requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/bootstrap.lock \
 && uv pip install --system --no-cache --require-hashes -r requirements/runtime.lock \
 && uv pip install --no-cache --no-deps --require-hashes --target /opt/weir-dataset -r requirements/dataset.lock
COPY pyproject.toml ./
COPY src src
COPY connect connect
COPY ingest ingest
COPY dbt dbt
COPY feature_repo feature_repo
COPY dashboards dashboards
COPY telemetry telemetry
COPY cost cost
COPY reconcile reconcile
COPY chaos chaos
COPY deploy/container.py deploy/container.py
# A named volume takes the owner of the folder that it is first mounted over.
RUN useradd --uid 10001 --create-home weir && install -d -o weir -g weir /var/lib/weir && chown weir:weir dbt
ENV PYTHONPATH=/opt/weir/src PYTHONUNBUFFERED=1 TZ=UTC WEIR_HOME=/var/lib/weir
USER weir
ENTRYPOINT ["python", "/opt/weir/deploy/container.py"]

FROM python AS connect
# Each jar is checked against its SHA-256 in connect/jars.lock; one that differs fails the build.
RUN ["python", "-c", "from pathlib import Path; from weir.connect import jars; jars.fetch(Path('/var/lib/weir'))"]
CMD ["connect"]
