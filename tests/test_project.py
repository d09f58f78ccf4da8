"""The project's own rules, as far as a tool can check them (docs/architecture.md says why)."""

import ast
import importlib
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import duckdb
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pricepulse import providers, settings
from warehouse import quality

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("pricepulse", "warehouse", "models", "jobs")

SQL = re.compile(
    r"\bSELECT\b.*\bFROM\b|\bINSERT\s+(OR\s+\w+\s+)?INTO\b|\bUPDATE\s+\S+\s+SET\b|\bDELETE\s+FROM\b"
    r"|\b(CREATE|DROP|ALTER)\s+(OR\s+REPLACE\s+)?(TEMP\s+)?(TABLE|VIEW|MACRO|SCHEMA|INDEX)\b"
    # In lower case only as a whole statement: "select" and "from" are words of prose, too.
    r"|\A\s*(?i:select\s.+\sfrom\s|insert\s+into\s|update\s+\S+\s+set\s|delete\s+from\s)",
    re.DOTALL,
)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def modules(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [path for path in found if "__pycache__" not in path.parts]


def place(path: Path, line: int = 1) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def literals(module: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, text) of the string literals that the code uses: f-strings as one, no docstrings."""
    skipped: set[int] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            parts = [part.value for part in node.values if isinstance(part, ast.Constant)]
            skipped.update(id(part) for part in node.values)
            yield node.lineno, " x ".join(str(part) for part in parts)
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in skipped
        ):
            yield node.lineno, node.value


def imports(module: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""


def tracked() -> list[Path]:
    """The files of the next commit: what git tracks or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def commands(text: str) -> list[str]:
    """The lines of a Markdown file's fenced blocks."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


def project() -> dict[str, list[Requirement]]:
    """The requirements of pyproject.toml: "" holds those of every installation, then the extras."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"": table["dependencies"], **table["optional-dependencies"]}
    return {name: [Requirement(line) for line in lines] for name, lines in groups.items()}


@pytest.mark.parametrize(
    ("code", "is_sql"),
    [
        ('query = "SELECT price\\n  FROM offer"', True),
        ('query = f"select {column} from offer where x = ?"', True),
        ('run("INSERT OR IGNORE INTO batch VALUES (?)")', True),
        ('run("UPDATE batch SET state = 1")', True),
        ('run("delete from batch where id = ?")', True),
        ('run("CREATE OR REPLACE TABLE t (i INT)")', True),
        ('def f():\n    """SELECT price FROM offer"""', False),
        ('text = "choose one to select from the list, or delete from it"', False),
        ('text = "UPDATE: settings are read once"', False),
    ],
)
def test_what_counts_as_sql(code: str, is_sql: bool) -> None:
    assert any(SQL.search(text) for _, text in literals(ast.parse(code))) is is_sql


def test_no_sql_outside_the_warehouse() -> None:
    found = [
        f"{place(path, line)} {text.strip()[:60]!r}"
        for path in modules("pricepulse", "jobs", "models")
        for line, text in literals(tree(path))
        if SQL.search(text)
    ]
    assert not found, "SQL belongs in a query function of warehouse/:\n" + "\n".join(found)


def test_modules_are_named_after_what_they_hold() -> None:
    drawers = {"utils", "util", "helpers", "helper", "common", "base", "misc"}
    drawers |= {"manager", "managers", "service", "services"}
    found = [
        place(path)
        for path in modules(*PACKAGES, "tests", "bench")
        if drawers & {path.stem, path.parent.name}
    ]
    assert not found, f"names that say nothing: {found}"


def test_no_module_over_500_lines() -> None:
    lengths = {
        place(path): len(path.read_text().splitlines())
        for path in modules(*PACKAGES, "tests", "bench")
    }
    found = {name: length for name, length in lengths.items() if length > 500}
    assert not found, f"look for the second idea that wants its own name: {found}"


def test_models_know_neither_sql_nor_http() -> None:
    found = [
        f"{place(path, line)} {name}"
        for path in modules("models")
        for line, name in imports(tree(path))
        if name.split(".")[0] in {"duckdb", "litestar", "sqlalchemy", "sqlite3"}
    ]
    assert not found, f"models take frames and give frames: {found}"


def test_warehouse_and_models_take_values_and_never_settings() -> None:
    found = []
    for path in modules("warehouse", "models"):
        for node in ast.walk(tree(path)):
            match node:
                case ast.Name(id="Settings") | ast.alias(name="Settings"):
                    found.append(f"{place(path, node.lineno)} Settings")
                case ast.Attribute(attr="environ" | "getenv"):
                    found.append(f"{place(path, node.lineno)} os.{node.attr}")
    assert not found, f"pass the path, the URL or the number itself: {found}"


def test_every_setting_is_documented_with_its_default() -> None:
    rows = re.findall(
        r"^\| `(PRICEPULSE_[\w<>]+)` \| (?:`([^`]*)`)? *\|",
        (ROOT / "docs" / "operations.md").read_text(),
        re.MULTILINE,
    )
    assert dict(rows) == {name: default for name, default, _ in settings.table()}


def test_every_rule_of_the_feed_is_documented() -> None:
    guide = (ROOT / "docs" / "feed.md").read_text()
    table = guide.partition("## Rules\n")[2].partition("\n## ")[0]
    assert dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", table, re.MULTILINE)) == quality.RULES


def test_every_query_of_the_analysts_guide_runs_and_every_table_is_in_it() -> None:
    guide = (ROOT / "docs" / "analysts.md").read_text()
    with duckdb.connect() as db:
        for name in ("warehouse.sql", "marts.sql"):
            db.execute((ROOT / "warehouse" / name).read_text())
        queries = re.findall(r"^```sql\n(.*?)^```", guide, re.DOTALL | re.MULTILINE)
        for query in queries:
            db.execute(query)
        tables = db.sql(
            "SELECT table_name FROM duckdb_tables() "
            "UNION ALL SELECT view_name FROM duckdb_views() WHERE NOT internal"
        ).fetchall()
    assert len(queries) > 5
    assert [name for (name,) in tables if f"\n| `{name}` |" not in guide] == []


def test_no_document_names_a_setting_that_does_not_exist() -> None:
    known = {name for name, _, _ in settings.table()}
    # Of any name, `PRICEPULSE_OIDC_<NAME>` included, of which only the beginning is found.
    fields = "|".join(field.name.upper() for field in providers.FIELDS)
    provider = re.compile(f"PRICEPULSE_OIDC(_[A-Z0-9]+_({fields}))?")
    texts = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "Dockerfile"]
    found = {
        f"{text.name}: {name}"
        for text in texts
        for name in re.findall(r"\bPRICEPULSE_[A-Z0-9_]*[A-Z0-9]", text.read_text())
        if name not in known and not provider.fullmatch(name)
    }
    assert not found


def test_every_dependency_has_its_decision() -> None:
    decisions = (ROOT / "docs" / "decisions.md").read_text().lower()
    found = [
        requirement.name
        for requirements in project().values()
        for requirement in requirements
        if requirement.name.lower() not in decisions
    ]
    assert not found, f"docs/decisions.md does not say why we depend on {found}"


def test_the_lock_pins_what_pyproject_asks_for_with_hashes_and_no_host() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert not re.search(r"^\s*(-i|-f|--(extra-)?index-url|--find-links|--trusted-host)\b", lock)
    pins = re.split(r"^(?=\w)", lock, flags=re.MULTILINE)[1:]
    assert all(re.search(r" --hash=sha256:[0-9a-f]{64}\b", pin) for pin in pins)
    versions = [re.match(r"([\w.-]+)==([^\s;]+)", pin) for pin in pins]
    # One name may have two pins, for two ranges of Python.
    pinned: dict[str, list[str]] = {}
    for match in filter(None, versions):
        pinned.setdefault(canonicalize_name(match[1]), []).append(match[2])
    wrong = [
        f"{requirement}: {pinned.get(canonicalize_name(requirement.name), 'not pinned')}"
        for requirements in project().values()
        for requirement in requirements
        if not any(
            map(requirement.specifier.contains, pinned.get(canonicalize_name(requirement.name), []))
        )
    ]
    assert not wrong


def test_the_readme_says_what_ci_runs() -> None:
    told = [line for line in commands((ROOT / "README.md").read_text()) if "dev.py" in line]
    assert told == ["python3 dev.py demo", "python3 dev.py check"]
    ci = (ROOT / ".ci" / "run").read_text().splitlines()
    assert [line for line in ci if "dev.py" in line] == ["python3 dev.py check"]


def test_documents_show_commands_that_exist() -> None:
    main = importlib.import_module("pricepulse.__main__").main
    assert isinstance(main, click.Group)
    shown = {
        (text.name, command)
        for text in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
        for line in commands(text.read_text())
        for command in re.findall(r"^(?:\$ )?(?:\.venv/bin/)?pricepulse ([a-z]+)", line)
    }
    assert shown, "the README shows no command"
    assert not {each for each in shown if each[1] not in main.commands}


def test_the_image_holds_every_package_of_the_wheel() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert tuple(tool["hatch"]["build"]["targets"]["wheel"]["packages"]) == PACKAGES
    dockerfile = (ROOT / "Dockerfile").read_text()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert [name for name in PACKAGES if f"COPY {name} ./{name}\n" not in dockerfile] == []
    assert [name for name in PACKAGES if f"!{name}" not in ignored] == []


def test_no_file_names_a_folder_of_one_machine() -> None:
    # Put together here, so that this file does not find itself.
    folder = re.compile(rb"(?<![\w.~}-])/(" + b"|".join([b"work", b"root", b"home"]) + rb")/\w")
    found = [
        f"{place(path, number)} {line.strip()[:80]!r}"
        for path in tracked()
        for number, line in enumerate(path.read_bytes().splitlines(), 1)
        if folder.search(line)
    ]
    assert not found, "paths are relative to the checkout:\n" + "\n".join(found)
