"""A small application over Django's ORM, as it comes: atomic blocks that look before they write.

Argument before the usual ones: `client` or `server`, for where parameters are bound. `reads` in the
results is how many statements have read in transactions that had not written yet.
"""

import sys
import time
from datetime import UTC, datetime
from urllib.parse import urlsplit

import django
from common import URL, main
from django.conf import settings

address = urlsplit(URL)
settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": address.path[1:],
            "USER": address.username,
            "HOST": address.hostname,
            "PORT": address.port,
            "OPTIONS": {"server_side_binding": sys.argv[-3] == "server"},
        }
    },
    INSTALLED_APPS=["library"],
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()

from django.db import (  # noqa: E402 - only now that it is set up
    DataError,
    IntegrityError,
    connection,
    models,
    transaction,
)
from library.models import Author, Book  # noqa: E402

BORN = datetime(2024, 2, 29, 12, tzinfo=UTC)
reads = 0


def looked(count):
    """So many statements have read before the first write."""
    global reads  # noqa: PLW0603 - a program's count
    reads += count


def rest():
    """Between two units of work: what was written comes to the replicas."""
    time.sleep(0.3)


@transaction.atomic
def published(name, title):
    """Select, then insert, then select."""
    author = Author.objects.get(name=name)
    known = author.book_set.count()
    looked(2)
    Book.objects.create(title=title, author=author, price=known + 1)
    return [known, author.book_set.count(), Book.objects.filter(title=title).get().author.name]


@transaction.atomic
def nested():
    """Savepoints before the first write and behind it; some of them are rolled back."""
    got = [Author.objects.count()]
    with transaction.atomic():
        got.append(Author.objects.get(name="first").book_set.count())
        looked(3)
        try:
            with transaction.atomic():
                Author.objects.create(name="first", born=BORN)
        except IntegrityError:
            got.append("is there")
        Author.objects.create(name="third", born=BORN)
    saved = transaction.savepoint()
    Author.objects.filter(name="third").update(data={"n": 1})
    got.append(Author.objects.get(name="third").data)
    transaction.savepoint_rollback(saved)
    got.append(Author.objects.get(name="third").data)
    return got


def failing():
    """An error before the first write: an inner block saves the transaction, or nothing does."""
    got = []
    with transaction.atomic():
        got.append(Author.objects.count())
        looked(1)
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("SELECT 1 / 0")
        except DataError as error:
            got.append(error.__cause__.sqlstate)
        got.append(Author.objects.count())
        looked(1)
        Author.objects.create(name="fourth", born=BORN)
    try:
        with transaction.atomic():
            got.append(Author.objects.count())
            looked(1)
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 / 0")
    except DataError as error:
        got.append(error.__cause__.sqlstate)
    got.append(Author.objects.count())
    return got


def rolled_back():
    got = []
    with transaction.atomic():
        got.append(Book.objects.aggregate(total=models.Sum("price")))
        looked(1)
        Book.objects.all().delete()
        got.append(Book.objects.count())
        transaction.set_rollback(True)
    got.append(Book.objects.count())
    return got


def locked():
    """What locks does not begin on a replica."""
    with transaction.atomic():
        author = Author.objects.select_for_update().get(name="second")
        author.data = {"locked": True}
        author.save()
    with transaction.atomic():
        found = list(Author.objects.order_by("name").values_list("name", "data"))
        looked(1)
    return [list(row) for row in found]


def application():
    with connection.schema_editor() as editor:
        editor.create_model(Author)
        editor.create_model(Book)
    for name in ("first", "second"):
        Author.objects.create(name=name, born=BORN)
    got = []
    for author, title in (("first", "one"), ("first", "two"), ("second", "three")):
        rest()
        got.append(published(author, title))
    for work in (nested, failing, rolled_back, locked):
        rest()
        got.append(work())
    got.append({"reads": reads})
    connection.close()
    return got


main({"application": application})
