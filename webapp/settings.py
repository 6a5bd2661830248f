"""Settings, from the environment only; every default suits `make run` on one machine."""

import ipaddress
import os
from pathlib import Path

import dj_database_url
from pythonjsonlogger.core import RESERVED_ATTRS

from webapp.control import look
from webapp.launch import embedded_redis
from webapp.secret import production_problem, read_or_make

BASE_DIR = Path(__file__).resolve().parent.parent


def _text(name: str, default: str = "") -> str:
    return os.environ.get(name) or default  # an empty line of an .env file asks for nothing


def _flag(name: str, default: bool) -> bool:
    return _text(name, str(default)).lower() in ("1", "true", "yes", "on")


def _names(name: str) -> list[str]:
    return [part.strip() for part in os.environ.get(name, "").split(",") if part.strip()]


def _networks(name: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    try:
        return [ipaddress.ip_network(part) for part in _names(name)]
    except ValueError as error:
        raise SystemExit(f"{name}: {error}. Networks are written like 10.0.0.0/8, comma separated.") from error


# Where everything that is not code lies: database, uploads, installed bundles, secrets.
STATE_DIR = Path(_text("UNROLL_STATE", str(BASE_DIR / "var"))).resolve()
STATE_DIR.mkdir(parents=True, exist_ok=True)
BUNDLE_ROOT = STATE_DIR / "bundles"
MEDIA_ROOT = STATE_DIR / "media"
SETUP_TOKEN_FILE = STATE_DIR / "setup-token"

DEBUG = _flag("DEBUG", False)
# PRODUCTION=on takes no secret and no list of names for granted.
PRODUCTION = _flag("PRODUCTION", False)
SECRET_KEY = _text("SECRET_KEY")
if PRODUCTION and (problem := production_problem(SECRET_KEY, os.environ)):
    raise SystemExit(problem)
SECRET_KEY = SECRET_KEY or read_or_make(STATE_DIR / "secret-key")
HOST = _text("HOST", "127.0.0.1")
_LOCAL = ["127.0.0.1", "localhost", "[::1]"]
# bound to an outside address without a list of names, the server answers to any: say ALLOWED_HOSTS in production
ALLOWED_HOSTS = _names("ALLOWED_HOSTS") or (_LOCAL if HOST in ("127.0.0.1", "localhost", "::1") else ["*"])
CSRF_TRUSTED_ORIGINS = _names("CSRF_TRUSTED_ORIGINS")
HTTPS = _flag("HTTPS", False)
if HTTPS:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = True
    SECURE_REDIRECT_EXEMPT = [r"^healthz/", r"^metrics$"]  # whatever watches stands beside the server, behind no TLS
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 60 * 60 * 24 * 90
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

# /metrics answers to this token, or to these networks; without both it is off
METRICS_TOKEN = _text("METRICS_TOKEN")
METRICS_ALLOW = _networks("METRICS_ALLOW")

# Links for a new password, where a mail server is named.
EMAIL_HOST = _text("EMAIL_HOST")
EMAIL_PORT = int(_text("EMAIL_PORT", "587"))
EMAIL_HOST_USER = _text("EMAIL_HOST_USER")
EMAIL_HOST_PASSWORD = _text("EMAIL_HOST_PASSWORD")
EMAIL_USE_TLS = _flag("EMAIL_USE_TLS", True)
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = _text("DEFAULT_FROM_EMAIL", "unroll@localhost")
PASSWORD_RESET_TIMEOUT = 3600

# ACCESS=signed-in asks everybody to sign in first.
ACCESS = _text("ACCESS", "open")
if ACCESS not in ("open", "signed-in"):
    raise SystemExit(f"ACCESS is {ACCESS!r}; it must be open or signed-in.")

# SIGN_UP=on lets everybody make an account; otherwise administrators make them.
SIGN_UP = _flag("SIGN_UP", False)

INSTALLED_APPS = [
    "unfold",  # before the admin, whose templates it replaces
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_htmx",
    "ninja",
    "webapp.registry",
    "webapp.jobs",
    "webapp.control",
    "webapp.playground",
    "webapp.api",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "webapp.playground.middleware.StaticFiles",
    "webapp.playground.middleware.content_security_policy",
    "webapp.api.methods.said_in_json",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "webapp.jobs.key_access.api_keys",
    "webapp.playground.middleware.signed_in_only",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
UNFOLD = look.UNFOLD
ROOT_URLCONF = "webapp.urls"
ASGI_APPLICATION = "webapp.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "webapp.playground.context.site",
            ],
        },
    },
]
FORM_RENDERER = "django.forms.renderers.DjangoTemplates"

DATABASES = {"default": dj_database_url.parse(_text("DATABASE_URL", f"sqlite:///{STATE_DIR / 'db.sqlite3'}"))}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        # readers never wait for the writer; a writer waits its turn instead of failing
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA busy_timeout=20000;",
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# redis://HOST:PORT/0 or unix:///path; a command typed beside `make run` finds that one's embedded server.
REDIS_URL = _text("REDIS_URL") or embedded_redis(STATE_DIR) or "redis://127.0.0.1:6379/0"
CELERY_BROKER_URL = REDIS_URL.replace("unix://", "redis+socket://", 1)
CELERY_TASK_IGNORE_RESULT = True
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_timeout": 1.0,
    "socket_connect_timeout": 1.0,
    "visibility_timeout": 3600,
    # kombu would try for 6 s to open its channel, whatever `retry` says
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0,
    "interval_max": 0,
}
CELERY_TASK_PUBLISH_RETRY = False  # a submit never hangs on a dead Redis: the sweep finds the row
CELERY_BEAT_SCHEDULE = {
    "sweep": {"task": "jobs.sweep", "schedule": 10.0, "options": {"queue": "control", "expires": 9}},
    "retention": {"task": "jobs.retention", "schedule": 3600.0, "options": {"queue": "control", "expires": 3000}},
}
CELERY_TIMEZONE = "UTC"

QUEUES = [name.strip() for name in _text("QUEUES", "fast,slow").split(",") if name.strip()]
RETENTION_DAYS = int(_text("RETENTION_DAYS", "30"))
MAX_QUEUED = int(_text("MAX_QUEUED", "5000"))
MAX_QUEUED_PER_OWNER = int(_text("MAX_QUEUED_PER_OWNER", "1500"))
MAX_BATCH_ITEMS = 1_000
MAX_BATCH_SIZE = int(_text("MAX_BATCH_SIZE", "0"))  # rows of a batch; 0 leaves it to each task
LEASE_S = float(_text("LEASE_S", "30"))
STEP_TIMEOUT_S = float(_text("STEP_TIMEOUT_S", "60"))
MAX_ATTEMPTS = 3
MAX_UPLOAD_BYTES = 20 << 20
MAX_BASE64_BYTES = 4 << 20  # of a file inside a JSON body; larger ones are uploaded first
UPLOAD_QUOTA_MB = int(_text("UPLOAD_QUOTA_MB", "1000"))  # of one owner
MIN_FREE_DISK_MB = 1_000  # below that uploads are refused
DEVICE = _text("DEVICE", "auto")
WORKER_THREADS = int(_text("WORKER_THREADS", "0"))  # cores of one operation; 0 takes all
DATA_UPLOAD_MAX_MEMORY_SIZE = 25 << 20  # bytes
DATA_UPLOAD_MAX_NUMBER_FIELDS = 5_000  # the admin names each row that it is to delete in a field
FILE_UPLOAD_MAX_MEMORY_SIZE = 5 << 20
FILE_UPLOAD_TEMP_DIR = None

# counters of failures live here: so many entries that nobody flushes them
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 100_000}}}
STATIC_URL = "/static/"
STATIC_ROOT = STATE_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
LANGUAGE_CODE = "en"
USE_I18N = False
FORMAT_MODULE_PATH = ["webapp.formats"]
USE_TZ = True
TIME_ZONE = "UTC"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "home"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

# LOG_FORMAT=json: a line a record, with a line for each job that ended (id, version, durations; never what was sent)
LOG_FORMAT = _text("LOG_FORMAT", "plain")
if LOG_FORMAT not in ("plain", "json"):
    raise SystemExit(f"LOG_FORMAT is {LOG_FORMAT!r}; it must be plain or json.")
LOG_LEVEL = _text("LOG_LEVEL", "WARNING")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {"format": "{levelname:<7} {name}: {message}", "style": "{"},
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "fmt": "{asctime}{levelname}{name}{message}",
            "style": "{",
            "rename_fields": {"asctime": "time", "levelname": "level", "name": "logger"},
            # the request of Django's own records holds headers and cookies
            "reserved_attrs": [*RESERVED_ATTRS, "request", "server_time"],
        },
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        # the product's own records: few, and worth reading, unless less is asked for
        "webapp": {"level": "INFO" if LOG_LEVEL == "WARNING" else LOG_LEVEL},
        "mlcore": {"level": "INFO" if LOG_LEVEL == "WARNING" else LOG_LEVEL},
        # in place of uvicorn's own format and levels
        "uvicorn": {"handlers": ["console"], "propagate": False, "level": LOG_LEVEL},
        "uvicorn.access": {"handlers": [], "propagate": False},
        "unroll.journal": {"level": "INFO" if LOG_FORMAT == "json" else "WARNING"},
    },
}
CSRF_FAILURE_VIEW = "webapp.playground.failures.forbidden"
