"""The documentation says what the code does, wherever that can be compared."""

import re
from pathlib import Path

import pytest

from pgproxy import errors
from pgproxy.cli import cli
from pgproxy.config import load
from pgproxy.protocol.states import lease_mermaid, replies_markdown
from tests.support import docs

pytestmark = pytest.mark.once

ROOT = docs.ROOT
DOCUMENTS = docs.documents()
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)

each_document = pytest.mark.parametrize(
    "path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def prose_of(path: Path) -> str:
    """Without what stands in fences."""
    return FENCE.sub("", text_of(path))


def anchors(path: Path) -> set[str]:
    """The fragments by which the headings of a document can be reached on GitHub."""
    headings = re.findall(r"^#+ +(.+?)\s*$", prose_of(path), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@each_document
def test_what_is_generated_is_what_the_code_says(path: Path) -> None:
    text = text_of(path)
    assert docs.render(text) == text, "run `make docs`"


def test_each_generated_part_stands_in_exactly_one_document() -> None:
    found = [name for path in DOCUMENTS for name in docs.names(text_of(path))]
    assert sorted(found) == sorted(docs.PARTS)


def test_the_architecture_shows_both_state_machines() -> None:
    text = text_of(ROOT / "ARCHITECTURE.md")
    assert replies_markdown() in text
    assert f"```mermaid\n{lease_mermaid()}\n```" in text


def test_a_part_that_has_drifted_is_written_anew() -> None:
    assert docs.render("<!-- generated: lease -->\nold\n<!-- end -->\nkept") == (
        f"<!-- generated: lease -->\n```mermaid\n{lease_mermaid()}\n```\n<!-- end -->\nkept"
    )


@each_document
def test_each_relative_link_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(path)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, fragment = target.partition("#")
        linked = path.parent / file if file else path
        assert linked.exists(), f"{path.name}: {target}"
        if fragment:
            assert fragment in anchors(linked), f"{path.name}: {target}"


@each_document
def test_each_make_target_that_is_named_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    text = text_of(path)
    named = set(re.findall(r"`make ([a-z-]+)", text))
    for _, block in FENCE.findall(text):
        named |= set(re.findall(r"^(?:\w+=\S+ )*make ([a-z-]+)", block, re.MULTILINE))
    assert named <= targets


@each_document
def test_each_pgproxy_command_that_is_named_exists(path: Path) -> None:
    text = text_of(path)
    named = set(re.findall(r"`(?:\.venv/bin/)?pgproxy ([a-z-]+)[^`\n]*`", text))
    for _, block in FENCE.findall(text):
        named |= set(re.findall(r"^(?:\.venv/bin/)?pgproxy ([a-z-]+)", block, re.MULTILINE))
    assert {name for name in named if not name.startswith("--")} <= set(cli.commands)


def test_the_readme_opens_with_the_two_commands() -> None:
    head = text_of(ROOT / "README.md").splitlines()[:20]
    assert any(line.strip().startswith("make demo") for line in head)
    assert any(line.strip().startswith("make test") for line in head)


def test_the_example_configuration_of_the_readme_is_accepted(tmp_path: Path) -> None:
    (example,) = (
        body for kind, body in FENCE.findall(text_of(ROOT / "README.md")) if kind == "toml"
    )
    (tmp_path / "users.txt").write_text('"alice" "secret"\n')
    (tmp_path / "monitor.password").write_text("secret\n")
    file = tmp_path / "pgproxy.toml"
    file.write_text(example)
    config = load(file, {})
    assert len(config.discovery.backends) == 2


def test_each_error_of_ours_is_documented() -> None:
    table = text_of(ROOT / "docs" / "behaviour.md")
    code = r'(?:^\w+(?:: Final)? = |PgError\(\s*)"([0-9X][0-9A-Z]{4})"'
    raised: set[str] = set()
    for path in (ROOT / "pgproxy").rglob("*.py"):
        raised |= set(re.findall(code, text_of(path), re.MULTILINE))
    assert errors.TOO_MANY_CONNECTIONS in raised
    raised.discard(errors.SUCCESS)  # of notices
    assert {one for one in raised if f"| {one} |" not in table} == set()
