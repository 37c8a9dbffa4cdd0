# Tidegate in a container; docs/deploy.md says how to run it. To be had the same again, name the images by digest.

FROM node:24-bookworm-slim AS build
WORKDIR /src
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY scripts/build.mjs scripts/compile.mjs scripts/
COPY src/ src/
# Types are checked by the tests.
RUN node scripts/build.mjs --no-check

FROM node:24-bookworm-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund

FROM node:24-bookworm-slim
# Fewer arenas of malloc: what reading a large configuration took is not kept by each thread that took part in it.
ENV NODE_ENV=production MALLOC_ARENA_MAX=2
WORKDIR /app
COPY --from=dependencies /app/node_modules/ node_modules/
COPY --from=build /src/dist/ dist/
COPY package.json LICENSE ./
COPY lua/ lua/
COPY config/ config/
RUN node dist/cli/tidegate.js check --config config/tidegate.yaml
# By number, so that Kubernetes can tell that it is not root. It writes nothing: the root file system may be read-only.
USER 1000:1000
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 CMD ["node", "/app/dist/cli/tidegate.js", "health"]
# As process 1 it handles SIGTERM itself, and the processes that it starts are its own to wait for: no init is needed.
ENTRYPOINT ["node", "/app/dist/cli/tidegate.js"]
CMD ["start", "--config", "/etc/tidegate/tidegate.yaml"]
