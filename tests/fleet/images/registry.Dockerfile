# Debian 13's image registry behind the interface of the official image `registry:2`.
ARG BASE
FROM ${BASE}
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends docker-registry wget \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /etc/docker/registry/* && mkdir -p /var/lib/registry && chmod 1777 /var/lib/registry
COPY registry.yml /etc/docker/registry/config.yml
VOLUME /var/lib/registry
EXPOSE 5000
ENTRYPOINT ["docker-registry"]
CMD ["serve", "/etc/docker/registry/config.yml"]
