"""Jobs with their content and files, batches, workers, what people leave. Only services and the like write rows.

The life of a job; each arrow is one conditional UPDATE, so two processes cannot both follow it:

    QUEUED --claim--> RUNNING --succeed--> SUCCEEDED
      ^  \\               |  \\--fail-----> FAILED
      |   \\--cancel--+   |  \\--cancel---> CANCELLED
      |               +---|-------------> CANCELLED
      +--lease ran out----+   (after three attempts: FAILED)
"""

from webapp.jobs.models.job import Batch, File, IdempotencyKey, Job, JobContent
from webapp.jobs.models.operation import Operation
from webapp.jobs.models.person import ApiKey, Feedback, Remembered, Sent, Share
from webapp.jobs.models.shared import TERMINAL, UNDER_WAY, Claimable, Owned, Status
from webapp.jobs.models.worker import Queue, Worker

__all__ = [
    "TERMINAL",
    "UNDER_WAY",
    "ApiKey",
    "Batch",
    "Claimable",
    "Feedback",
    "File",
    "IdempotencyKey",
    "Job",
    "JobContent",
    "Operation",
    "Owned",
    "Queue",
    "Remembered",
    "Sent",
    "Share",
    "Status",
    "Worker",
]
