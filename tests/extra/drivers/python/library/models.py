"""Authors and their books."""

from django.db import models


class Author(models.Model):
    name = models.CharField(max_length=50, unique=True)
    born = models.DateTimeField()
    data = models.JSONField(default=dict)


class Book(models.Model):
    title = models.CharField(max_length=50)
    author = models.ForeignKey(Author, models.CASCADE)
    price = models.DecimalField(max_digits=8, decimal_places=2)
