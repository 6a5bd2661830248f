FROM python:3.11-slim AS web
WORKDIR /app
COPY requirements requirements
RUN pip install --no-cache-dir -r requirements/web.txt
COPY . .
# a checkout may have been made for its owner only
RUN chmod -R a+rX /app && useradd --create-home unroll && mkdir -p /state && chown unroll /state
USER unroll
ENV UNROLL_STATE=/state
CMD ["python", "-m", "uvicorn", "webapp.asgi:application", "--host", "0.0.0.0", "--port", "8000", "--no-access-log"]

FROM web AS worker
USER root
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url ${TORCH_INDEX}} -r requirements/worker.txt
USER unroll
CMD ["python", "-m", "celery", "--quiet", "-A", "webapp", "worker", "--include", "webapp.jobs.worker", "--pool", "solo", "--queues", "fast,control"]
