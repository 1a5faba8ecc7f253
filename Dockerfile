# An image for each service: docker build --target gateway|transformer|dedup|stand-in|crawler .
# Every one runs as user 10001 on a read-only root with a tmpfs at /tmp, and starts no shell. Docker's older builder
# also builds what stands above its target, so the largest comes last.
ARG BASE=python:3.13-slim-bookworm

FROM ${BASE} AS build
RUN python -m venv --without-pip /opt/venv
WORKDIR /opt/pinstream

FROM ${BASE} AS run
RUN groupadd --gid 10001 pinstream && \
    useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin pinstream
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /opt/pinstream
USER 10001:10001

# a service's health is /readyz, that it can take work, for that is what others wait for
FROM run AS service
ENV HEALTH_HOST=0.0.0.0
HEALTHCHECK --interval=10s --timeout=10s --start-period=90s CMD ["python", "-m", "libs.common.probe", "HEALTH_PORT"]

FROM build AS gateway-build
COPY deploy/locks/gateway.lock /tmp/
RUN pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes -r /tmp/gateway.lock
COPY libs libs
COPY services/__init__.py services/
COPY services/gateway services/gateway
RUN python -m compileall -q --invalidation-mode unchecked-hash .

FROM service AS gateway
COPY --from=gateway-build /opt/venv /opt/venv
COPY --from=gateway-build /opt/pinstream /opt/pinstream
# HEALTH_PORT is not for publishing: /metrics is there; and it stays without TLS
ENV GATEWAY_HOST=0.0.0.0 \
    GATEWAY_PORT=8080 \
    HEALTH_PORT=8084
EXPOSE 8080
ENTRYPOINT ["python", "-m", "services.gateway"]

FROM build AS transformer-build
COPY deploy/locks/transformer.lock /tmp/
RUN pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes -r /tmp/transformer.lock
COPY libs libs
COPY services/__init__.py services/
COPY services/transformer services/transformer
RUN python -m compileall -q --invalidation-mode unchecked-hash .

FROM service AS transformer
COPY --from=transformer-build /opt/venv /opt/venv
COPY --from=transformer-build /opt/pinstream /opt/pinstream
ENV HEALTH_PORT=8082
EXPOSE 8082
ENTRYPOINT ["python", "-m", "services.transformer"]

FROM build AS dedup-build
COPY deploy/locks/dedup.lock /tmp/
RUN pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes -r /tmp/dedup.lock
COPY libs libs
COPY services/__init__.py services/
COPY services/dedup services/dedup
RUN python -m compileall -q --invalidation-mode unchecked-hash .

FROM service AS dedup
# where the job that makes the broker's keys writes them: a volume takes the owner of the place it is first mounted at
USER root
RUN cd / && for user in server streams gateway crawler transformer dedup subscriber operator system; do \
        install -d -o 10001 -g 10001 -m 0755 "keys/$user"; \
    done
USER 10001:10001
COPY --from=dedup-build /opt/venv /opt/venv
COPY --from=dedup-build /opt/pinstream /opt/pinstream
ENV HEALTH_PORT=8083
EXPOSE 8083
ENTRYPOINT ["python", "-m", "services.dedup"]

FROM build AS stand-in-build
COPY deploy/locks/stand-in.lock /tmp/
RUN pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes -r /tmp/stand-in.lock
COPY libs libs
COPY tests tests
RUN python -m compileall -q --invalidation-mode unchecked-hash .

FROM run AS stand-in
COPY --from=stand-in-build /opt/venv /opt/venv
COPY --from=stand-in-build /opt/pinstream /opt/pinstream
EXPOSE 8800
HEALTHCHECK --interval=5s --timeout=10s --start-period=30s CMD ["python", "-m", "libs.common.probe", "8800", "/_stand_in/healthz"]
ENTRYPOINT ["python", "-m", "tests.fake_pinterest", "--host=0.0.0.0", "--port=8800"]

FROM build AS crawler-build
COPY deploy/locks/crawler.lock /tmp/
RUN pip --python /opt/venv/bin/python install --no-cache-dir --require-hashes -r /tmp/crawler.lock
COPY libs libs
COPY services/__init__.py services/
COPY services/crawler services/crawler
RUN python -m compileall -q --invalidation-mode unchecked-hash .

FROM service AS crawler
USER root
# libatomic1 is for Playwright's driver, certutil of libnss3-tools for UPSTREAM_CA_FILE; tini buries what Chromium leaves
RUN apt-get update && \
    apt-get install -y --no-install-recommends chromium fonts-liberation libatomic1 libnss3-tools tini && \
    rm -rf /var/lib/apt/lists/* /var/cache/apt/*
USER 10001:10001
COPY --from=crawler-build /opt/venv /opt/venv
COPY --from=crawler-build /opt/pinstream /opt/pinstream
# the program itself, for /usr/bin/chromium is a script; its sandbox needs deploy/seccomp/chromium.json
ENV BROWSER_EXECUTABLE=/usr/lib/chromium/chromium \
    BROWSER_SANDBOX=required \
    HEALTH_PORT=8081
EXPOSE 8081
ENTRYPOINT ["tini", "--", "python", "-m", "services.crawler"]
