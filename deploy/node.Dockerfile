# The node: receive, deliver, sweep, admin. No workers' packages and no torch in it.
#
# Installed by the command of the Makefile, with the same pins; only the extras are fewer.

ARG PYTHON=3.11.14-slim-bookworm

FROM python:${PYTHON} AS build
RUN python -m venv /opt/genu
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY node node
COPY workers workers
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/genu/bin/python -m pip --quiet --disable-pip-version-check install --constraint constraints.txt '.[node]'

FROM python:${PYTHON}
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin genu \
    && install --directory --owner=genu --group=genu --mode=0700 /var/lib/genu \
    && install --directory /etc/genu/tls
COPY --from=build /opt/genu /opt/genu
COPY --chmod=755 deploy/healthy.py /usr/local/bin/healthy
ENV PATH=/opt/genu/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/genu
VOLUME /var/lib/genu
CMD ["genu", "--help"]
