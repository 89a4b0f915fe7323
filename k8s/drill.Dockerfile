# The store's image with kubectl in it, which drills in a cluster work with.
#
#   docker build -f k8s/drill.Dockerfile -t richardstore-drill:dev k8s
ARG IMAGE=richardstore:dev
ARG KUBECTL=registry.k8s.io/kubectl:v1.34.1
FROM ${KUBECTL} AS kubectl

FROM ${IMAGE}
COPY --from=kubectl /bin/kubectl /bin/kubectl
ENV PATH=/bin
HEALTHCHECK NONE
