# Tidegate in a container; docs/deploy.md says how to run it. For reproducible builds, name the images by digest.

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
# Fewer malloc arenas, so that not every thread keeps the memory that reading a large configuration took.
ENV NODE_ENV=production MALLOC_ARENA_MAX=2
WORKDIR /app
COPY --from=dependencies /app/node_modules/ node_modules/
COPY --from=build /src/dist/ dist/
COPY package.json LICENSE ./
COPY lua/ lua/
COPY config/ config/
RUN node dist/cli/tidegate.js check --config config/tidegate.yaml
# A number, so that Kubernetes can see that it is not root. The gateway writes nothing, so the root file system can be read-only.
USER 1000:1000
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s --retries=3 CMD ["node", "/app/dist/cli/tidegate.js", "health"]
# No init is needed: as process 1 it handles SIGTERM and waits for its child processes.
ENTRYPOINT ["node", "/app/dist/cli/tidegate.js"]
CMD ["start", "--config", "/etc/tidegate/tidegate.yaml"]
