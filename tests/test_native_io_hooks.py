"""What polars and pyarrow read and write in native code is seen as well."""

from __future__ import annotations

import pytest
from notebook_author import Author

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

NATIVE = {
    "polars csv": "import polars as pl\nx = pl.read_csv('data/a.csv')['a'].to_list()",
    "polars scan": "import polars as pl\nx = pl.scan_parquet('data/*.parquet').collect()['a'].to_list()",
    "polars by name": "import polars as pl\nx = pl.read_parquet(source='data/a.parquet')['a'].to_list()",
    "arrow table": "import pyarrow.parquet as pq\nx = pq.read_table('data/a.parquet')['a'].to_pylist()",
    "arrow file": "import pyarrow.parquet as pq\nx = pq.ParquetFile('data/a.parquet').read()['a'].to_pylist()",
    "arrow dataset": "import pyarrow.dataset as ds\nx = ds.dataset('data/').to_table()['a'].to_pylist()",
    "pandas folder": "import pandas as pd\nx = pd.read_parquet('parts')['a'].to_list()",
}


@pytest.mark.parametrize("code", NATIVE.values(), ids=NATIVE)
def test_a_file_that_polars_or_arrow_reads_in_native_code_counts(tmp_path, code):
    polars = pytest.importorskip("polars")

    def fill(value: int) -> None:
        table = polars.DataFrame({"a": [value]})
        if "csv" in code:
            table.write_csv(tmp_path / "data" / "a.csv")
        table.write_parquet(tmp_path / ("parts" if "parts" in code else "data") / "a.parquet")

    (tmp_path / "data").mkdir()
    (tmp_path / "parts").mkdir()
    fill(1)
    author = Author(tmp_path, f"%%step s -o x\n{code}")
    author.run()
    assert author.run() == set()
    fill(2)
    assert author.run() == {"s"}
    assert author.value("x") == [2]


def test_what_polars_or_arrow_writes_is_the_steps_own(tmp_path):
    polars = "import polars as pl\npl.DataFrame({'a': [1]}).write_parquet('a')\nx = pl.read_parquet('a').height"
    arrow = (
        "import pyarrow as pa, pyarrow.parquet as pq\n"
        "pq.write_table(pa.table({'a': [1]}), 'b')\ny = pq.read_table('b').num_rows"
    )
    gone = "import os\nos.remove"
    author = Author(tmp_path, f"%%step s -o x\n{polars}\n{gone}('a')", f"%%step t -o y\n{arrow}\n{gone}('b')")
    author.run()
    assert author.run() == set()
    assert {(item.kind, item.name) for item in author.step("t").observed} & {("read", "b"), ("probed", "b")} == set()
