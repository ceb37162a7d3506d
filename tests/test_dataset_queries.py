"""Datasets that are the results of queries: kept as tables, and read again only if they may have changed."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from command_in_process import said
from notebook_author import write_notebook
from object_servers import free_port

from nbpipe import Dataset
from nbpipe.data import database_queries
from nbpipe.errors import BadData, BadUsage, DatastoreUnavailable, NbpipeError, StoreOutOfReach

ALL = "SELECT * FROM sales ORDER BY id"
NEWEST = "SELECT max(id) FROM sales"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nbpipe.toml").write_text(
        '[datastores.shop]\nurl = "sqlite:///data/shop.db"\n[datastores.gone]\nurl = "sqlite:///gone.db"\n'
        '[datastores.lake]\nurl = "./lake"\n'
        '[datastores.crm]\nurl = "postgresql://db.invalid/crm"\ncredentials = { password = "env:CRM_PASSWORD" }\n'
    )
    (tmp_path / "data").mkdir()
    change(tmp_path, "CREATE TABLE sales (id INTEGER, name TEXT, price REAL)")
    change(tmp_path, "INSERT INTO sales VALUES (1, 'a', 1.5), (2, NULL, 2.5)")
    return tmp_path


@pytest.fixture
def reads(monkeypatch):
    """Count how often a result is read."""
    counted: list[str] = []
    read_table = database_queries.read_table

    def counting(configuration, environment, query):
        counted.append(query)
        return read_table(configuration, environment, query)

    monkeypatch.setattr(database_queries, "read_table", counting)
    return counted


def change(folder, statement: str) -> None:
    with closing(sqlite3.connect(folder / "data/shop.db")) as connection, connection:
        connection.execute(statement)


def number(dataset: Dataset) -> int:
    return dataset.registered().number


def test_a_result_is_a_table_that_is_kept(project):
    Dataset.from_query("shop", ALL).register("sales")
    change(project, "DELETE FROM sales")

    table = Dataset.get("sales").to_arrow()
    assert table.to_pydict() == {"id": [1, 2], "name": ["a", None], "price": [1.5, 2.5]}
    assert Dataset.from_query("shop", ALL).to_arrow().num_rows == 0


def test_without_a_version_it_is_read_each_time(project, reads):
    first = Dataset.from_query("shop", ALL).register("sales")
    again = Dataset.from_query("shop", ALL).register("sales")
    change(project, "INSERT INTO sales VALUES (3, 'c', 3)")
    changed = Dataset.from_query("shop", ALL).register("sales")

    assert [number(first), number(again), number(changed)] == [1, 1, 2]
    assert len(reads) == 3


def test_with_the_same_version_it_is_not_read(project, reads):
    def register() -> int:
        return number(Dataset.from_query("shop", ALL, version=NEWEST).register("sales"))

    assert [register(), register()] == [1, 1]
    assert len(reads) == 1
    change(project, "INSERT INTO sales VALUES (3, 'c', 3)")
    assert [register(), register()] == [2, 2]
    assert len(reads) == 2
    change(project, "UPDATE sales SET id = 4 WHERE id = 3")
    change(project, "UPDATE sales SET id = 3 WHERE id = 4")
    assert register() == 2


def test_a_changed_state_with_the_same_rows_is_read_once(project, reads):
    query = "SELECT id FROM sales WHERE id < 3 ORDER BY id"
    for _ in range(2):
        Dataset.from_query("shop", query, version=NEWEST).register("few")
    change(project, "INSERT INTO sales VALUES (9, 'z', 9)")
    numbers = [number(Dataset.from_query("shop", query, version=NEWEST).register("few")) for _ in range(3)]

    assert numbers == [1, 1, 1]
    assert len(reads) == 2


def test_a_young_result_is_not_read(project, reads):
    def register(age: str) -> int:
        return number(Dataset.from_query("shop", ALL, max_age=age).register("sales"))

    assert [register("6h"), register("6h")] == [1, 1]
    assert len(reads) == 1
    time.sleep(0.01)
    assert register("5ms") == 1
    assert len(reads) == 2


def test_another_query_is_read(project, reads):
    Dataset.from_query("shop", ALL, version=NEWEST).register("sales")
    other = Dataset.from_query("shop", "SELECT id FROM sales ORDER BY id", version=NEWEST).register("sales")

    assert number(other) == 2
    assert len(reads) == 2


def test_an_edited_result(project):
    registered = Dataset.from_query("shop", ALL).filter(name="a").keep("id").register("sales")

    assert registered.to_arrow().to_pydict() == {"id": [1]}
    assert Dataset.from_query("shop", ALL).head(1)["id"].tolist() == [1]


@pytest.mark.parametrize("statement", ["DELETE FROM sales", "CREATE TABLE x (a)", "DROP TABLE sales"])
def test_a_query_changes_nothing(project, statement):
    with pytest.raises(NbpipeError):
        Dataset.from_query("shop", statement).to_arrow()
    assert Dataset.from_query("shop", ALL).to_arrow().num_rows == 2


@pytest.mark.parametrize(
    "store, query, error, message",
    [
        ("shop", "SELECT * FROM sale", BadData, "no such table"),
        ("shop", "PRAGMA query_only = ON", BadData, "has no result"),
        ("shop", "SELECT id, id FROM sales", BadData, "two columns called `id`"),
        ("shop", "SELECT 1 AS a UNION SELECT 'x'", BadData, "column `a` of the query has values of several types"),
        ("gone", ALL, StoreOutOfReach, "`gone` is not there"),
        ("lake", ALL, BadUsage, "no database"),
        ("shpo", ALL, BadUsage, "no datastore `shpo`"),
        ("crm", ALL, DatastoreUnavailable, "CRM_PASSWORD is not set"),
    ],
)
def test_what_is_wrong_is_told(project, store, query, error, message):
    with pytest.raises(error, match=message) as raised:
        Dataset.from_query(store, query).to_arrow()
    assert raised.value.hint


def test_a_version_is_one_value(project):
    with pytest.raises(BadData, match="does not give one value"):
        Dataset.from_query("shop", ALL, version="SELECT id FROM sales").register("sales")


def test_the_verbs_know_databases(project):
    assert "ok" in said("datastores", "test", "shop")[1]
    code, text = said("datastores", "ls", "shop")
    assert (code, "holds no files" in text) == (2, True)
    Dataset.from_query("shop", ALL).register("sales")
    assert f"query of shop: {ALL}" in said("datasets", "show", "sales")[1]


@pytest.fixture(scope="module")
def server():
    """Run a PostgreSQL server; yield its address."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        who: dict[str, Any] = {}
        if os.geteuid() == 0:
            # The server refuses to run as root.
            shutil.chown(folder, "nobody")
            who = {"user": "nobody"}
        data, port = Path(folder, "data"), free_port()

        def run(*words: str | Path) -> None:
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd=folder, **who)

        run("initdb", "-D", data, "-U", "reader", "-A", "trust", "-N")
        options = f"-p {port} -h 127.0.0.1 -k {folder} -F"
        run("pg_ctl", "-D", data, "-o", options, "-l", f"{folder}/log", "-w", "start")
        try:
            yield f"postgresql://127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


@pytest.mark.postgres
def test_a_real_server_is_read_and_never_written(project, server, monkeypatch):
    monkeypatch.setenv("THE_USER", "reader")
    settings = project / "nbpipe.toml"
    settings.write_text(f'[datastores.crm]\nurl = "{server}"\ncredentials = {{ user = "env:THE_USER" }}\n')
    with psycopg.connect(server, user="reader") as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS people (id int, born date, paid numeric(6, 2), name text)")
        connection.execute("DELETE FROM people")
        connection.execute("INSERT INTO people VALUES (1, '2000-01-02', 3.50, 'ä'), (2, NULL, NULL, NULL)")
    query = "SELECT * FROM people ORDER BY id"

    table = Dataset.from_query("crm", query, version="SELECT count(*) FROM people").register("people").to_arrow()
    assert table.to_pylist()[0] == {"id": 1, "born": dt.date(2000, 1, 2), "paid": Decimal("3.50"), "name": "ä"}
    assert "ok" in said("datastores", "test", "crm")[1]
    with pytest.raises(BadData, match="read-only"):
        Dataset.from_query("crm", "DELETE FROM people RETURNING id").to_arrow()
    with pytest.raises(BadData, match='"poeple" does not exist'):
        Dataset.from_query("crm", "SELECT * FROM poeple").to_arrow()
    assert Dataset.from_query("crm", query).to_arrow().num_rows == 2
    settings.write_text(settings.read_text().replace(server, "postgresql://127.0.0.1:1/postgres"))
    with pytest.raises(StoreOutOfReach, match="out of reach"):
        Dataset.from_query("crm", query).to_arrow()


def test_a_query_is_registered_from_a_shell_and_read_again_only_if_it_may_have_changed(project, reads):
    words = ("datasets", "register", "sales", "store:shop", "--query", ALL, "--query-version", NEWEST)

    assert said(*words)[1].startswith("sales@1 (kept, ")
    assert "2 rows" in said("datasets", "show", "sales")[1]
    assert said(*words)[1].startswith("sales@1 (the same ")
    change(project, "INSERT INTO sales VALUES (3, 'c', 3.5)")
    assert said(*words)[1].startswith("sales@2 (kept, ")
    assert reads == [ALL, ALL]
    code, text = said("datasets", "register", "files", "store:lake", "--query", ALL)
    assert (code, "no database" in text) == (2, True)


def test_a_plan_says_of_which_query_a_version_is_the_result(project):
    Dataset.from_query("shop", ALL).register("sales")
    write_notebook(project / "n.ipynb", ["%%step use -i sales=ds:sales -o n:json\nn = len(sales)"])

    assert "sales@1 (query of shop, read " in " ".join(said("plan", "n.ipynb")[1].split())
    planned = json.loads(said("plan", "n.ipynb", "--json")[1].splitlines()[0])
    assert planned["queries"]["sales@1"]["store"] == "shop"
    assert planned["steps"][0]["datasets"] == {"sales": "sales@1"}
