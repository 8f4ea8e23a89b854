"""As much of a Django project as sending takes; yours has more."""

import os

CMZON_TOKEN_URI = os.environ["CMZON_TOKEN_URI"]

SECRET_KEY = os.environ["DJANGO_SECRET_KEY"]
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = "shop"
WSGI_APPLICATION = "shop.application"
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
]
