# A catalog of /media, served at port 7997: docs/deployment.md
FROM python:3.11-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG TORCH=
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE requirements.lock requirements-dev.lock ./
COPY deploy deploy
COPY embedspace embedspace
RUN TORCH_INDEX="$TORCH_INDEX" TORCH="$TORCH" deploy/install /opt/embedspace

FROM python:3.11-slim-bookworm
COPY --from=build /opt/embedspace /opt/embedspace
COPY deploy/entrypoint /usr/local/bin/embedspace-entrypoint
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin embedspace \
    && install -d -o embedspace -g embedspace /catalog \
    && install -d /media
ENV PATH=/opt/embedspace/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    XDG_CACHE_HOME=/catalog/.cache
USER 10001
VOLUME /catalog
EXPOSE 7997
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7997/health', timeout=4)"]
ENTRYPOINT ["embedspace-entrypoint"]
