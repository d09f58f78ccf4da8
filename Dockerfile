# syntax=docker/dockerfile:1

# The lock pins the development tools too, and pip has no "only these of the lock, with hashes". So:
# fetch everything it names, every file checked against its hash, and then let pip choose what the
# server needs from that folder alone, without an index. The build backend comes from there as well.
FROM python:3.12-slim AS build
WORKDIR /src
COPY requirements.lock ./
RUN pip download --no-cache-dir --require-hashes --only-binary :all: -r requirements.lock -d /wheels
COPY pyproject.toml README.md LICENSE ./
COPY pricepulse ./pricepulse
COPY warehouse ./warehouse
COPY models ./models
COPY jobs ./jobs
RUN python -m venv --without-pip /app \
    && pip --python /app/bin/python install --no-cache-dir --no-index --find-links /wheels ".[cluster]"

FROM python:3.12-slim
RUN useradd --uid 10001 --create-home pricepulse \
    && install --directory --owner pricepulse --group pricepulse /data
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PRICEPULSE_DATA=/data \
    PRICEPULSE_HOST=0.0.0.0 \
    PRICEPULSE_PORT=8000
USER pricepulse
VOLUME /data
EXPOSE 8000
# Not urllib: it would send the question through a proxy where the environment names one.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['PRICEPULSE_PORT']), timeout=4); c.request('GET', '/health/ready'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["pricepulse"]
CMD ["serve"]
