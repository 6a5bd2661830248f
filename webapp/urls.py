"""All addresses: pages, API, admin, health, metrics."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

from webapp.api.routes import api
from webapp.control import metrics

urlpatterns = [
    path("", include("webapp.playground.urls")),
    path("api/v1/", api.urls),
    # one page to sign in by: it counts failures
    path("admin/login/", RedirectView.as_view(pattern_name="login", query_string=True)),
    path("admin/", admin.site.urls),
    path("metrics", metrics.page),
]
handler400 = "webapp.playground.failures.bad_request"
handler403 = "webapp.playground.failures.forbidden"
handler404 = "webapp.playground.failures.not_found"
handler500 = "webapp.playground.failures.server_error"
