"""Addresses of the pages."""

from django.contrib.auth import views as auth_views
from django.urls import path, reverse_lazy

from webapp.playground import account, batches, entrance, gallery, health, history, photos, reset, setup, sharing, views

PASSWORD_CHANGE = auth_views.PasswordChangeView.as_view(
    template_name="registration/password.html", success_url=reverse_lazy("account")
)
urlpatterns = [
    path("", views.home, name="home"),
    path("tasks/photos/", photos.page, name="drop-photos"),
    path("tasks/photos/run", photos.run, name="run-photos"),
    path("tasks/<slug:page>/", views.task_page, name="task"),
    path("tasks/<slug:page>/run", views.run, name="run"),
    path("tasks/<slug:page>/batch", views.run_batch, name="run-batch"),
    path("tasks/<slug:page>/document", views.run_document, name="run-document"),
    path("files/<uuid:pk>", views.file, name="file"),
    path("jobs/<uuid:pk>/", views.job_page, name="job"),
    path("jobs/<uuid:pk>/panel", views.job_panel, name="job-panel"),
    path("jobs/<uuid:pk>/share", sharing.share, name="share"),
    path("jobs/<uuid:pk>/unshare", sharing.unshare, name="unshare"),
    path("shared/<str:token>/", sharing.shared, name="shared"),
    path("jobs/<uuid:pk>/download", views.download, name="download"),
    path("jobs/<uuid:pk>/judge", views.judge, name="judge"),
    path("jobs/<uuid:pk>/propose", views.propose, name="propose"),
    path("jobs/<uuid:pk>/cancel", views.cancel_job, name="cancel-job"),
    path("batches/<uuid:pk>/", batches.batch_page, name="batch"),
    path("batches/<uuid:pk>/panel", batches.batch_panel, name="batch-panel"),
    path("batches/<uuid:pk>/cancel", batches.cancel_batch, name="cancel-batch"),
    path("photos/", gallery.gallery, name="photos"),
    path("photos/delete", gallery.delete, name="delete-photos"),
    path("photos/<uuid:pk>/", photos.photo_page, name="photo-page"),
    path("photos/<uuid:pk>/panel", photos.panel, name="photo-panel"),
    path("photos/<uuid:pk>/cancel", photos.cancel, name="photo-cancel"),
    path("photos/<uuid:pk>.webp", photos.image, name="photo"),
    path("photos/<uuid:pk>-small.webp", photos.image, {"size": "small"}, name="photo-small"),
    path("history/", history.history, name="history"),
    path("history/delete", history.delete, name="delete"),
    path("account/", account.account, name="account"),
    path("account/keys", account.make_key, name="make-key"),
    path("account/keys/<int:pk>/revoke", account.revoke_key, name="revoke-key"),
    path("account/remembered/<int:pk>/forget", account.forget, name="forget"),
    path("account/delete", account.delete_everything, name="delete-everything"),
    path("accounts/password/", PASSWORD_CHANGE, name="password_change"),
    path("account/email", account.set_email, name="set-email"),
    path("accounts/reset/", reset.Ask.as_view(), name="reset-ask"),
    path("accounts/reset/sent/", reset.Sent.as_view(), name="reset-sent"),
    path("accounts/reset/<uidb64>/<token>/", reset.Confirm.as_view(), name="reset"),
    path("accounts/login/", entrance.SignIn.as_view(), name="login"),
    path("accounts/sign-up/", entrance.sign_up, name="sign-up"),
    path("accounts/logout/", auth_views.LogoutView.as_view(), name="logout"),
    path("setup/<str:token>/", setup.first_administrator, name="setup"),
    path("healthz/live", health.live, name="live"),
    path("healthz/ready", health.ready, name="ready"),
]
