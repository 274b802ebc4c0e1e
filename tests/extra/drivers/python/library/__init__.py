"""The application whose models use_django.py uses."""
