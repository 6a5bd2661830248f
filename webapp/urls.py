"""All addresses: pages, API, admin, health, metrics."""

from django.contrib import admin
from django.urls import include, path

from webapp.api.routes import api
from webapp.control import metrics, people

urlpatterns = [
    path("", include("webapp.playground.urls")),
    path("api/v1/", api.urls),
    path("admin/login/", people.to_sign_in),
    path("admin/", admin.site.urls),
    path("metrics", metrics.page),
]
handler400 = "webapp.playground.failures.bad_request"
handler403 = "webapp.playground.failures.forbidden"
handler404 = "webapp.playground.failures.not_found"
handler500 = "webapp.playground.failures.server_error"
