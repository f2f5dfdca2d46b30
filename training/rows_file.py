"""Rows file: the known rows of a training set as one Parquet file, named by the SHA-256 of what is in it.

    path = keep(folder, rows)                 # written once, whole or not at all; the same rows have the same name
    rows = read(path)                         # bit for bit; a file that was changed is refused

Sets of the same rows (the blocks of a walk, another split) share one file. It holds what was known at each decision, so
that a set can be made again after its bars were corrected, lengthened or deleted.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.features import FORECAST_BAR
from training.dataset import KnownRows

ARRAYS = {"close_ns": np.int64, "opens": np.float64, "closes": np.float64, "context": np.float64}
"""Columns beside the features, which are float32."""
ABOUT = b"candlewick"
"""The key of the file's metadata under which lies what is no column."""
LEVEL = 3
"""Of zstd; 9 takes twice as long for 2 % less."""


def digest(rows: KnownRows) -> str:
    """SHA-256 of everything in the rows: what they are of, and names, types, shapes and bytes of all arrays."""
    whole = hashlib.sha256(_about(rows))
    for name, column in {**{name: getattr(rows, name) for name in ARRAYS}, "values": rows.values}.items():
        whole.update(f"{name} {column.dtype.str} {column.shape} ".encode())
        whole.update(np.ascontiguousarray(column).tobytes())
    return whole.hexdigest()


def keep(folder: Path, rows: KnownRows) -> Path:
    """Write the rows unless they are there already."""
    path = folder / f"{digest(rows)}.parquet"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        columns = {name: getattr(rows, name) for name in ARRAYS}
        columns |= {name: np.ascontiguousarray(rows.values[:, i]) for i, name in enumerate(FORECAST_BAR)}
        table = pa.table({name: pa.array(column) for name, column in columns.items()})
        fresh = path.with_suffix(f".{os.getpid()}.tmp")  # two processes may keep the same rows at once
        pq.write_table(
            table.replace_schema_metadata({ABOUT: _about(rows)}), fresh, compression="zstd", compression_level=LEVEL,
            use_dictionary=False, use_byte_stream_split=list(columns), write_statistics=False,
        )
        fresh.replace(path)
    return path


def read(path: Path) -> KnownRows:
    """The rows as they were. Raises `ValueError` for a file whose content is not what its name says."""
    try:
        table = pq.read_table(path)
        about: dict[str, Any] = json.loads(table.schema.metadata[ABOUT])
        arrays = {name: table[name].to_numpy().astype(kind, copy=False) for name, kind in ARRAYS.items()}
        values = np.stack([table[name].to_numpy().astype(np.float32, copy=False) for name in about["features"]], axis=1)
    except (OSError, pa.ArrowInvalid, KeyError, TypeError) as error:
        raise ValueError(f"expected known rows in {path}, found {error!r}; restore the file or delete it") from error
    lengths = tuple((str(name), int(count)) for name, count in about["lengths"])
    rows = KnownRows(
        about["symbol"], about["source"], values=values, content=about["content"], lengths=lengths, **arrays,
    )
    if digest(rows) != path.stem:
        raise ValueError(f"expected the rows that {path} is named by, found others; restore the file or delete it")
    return rows


def _about(rows: KnownRows) -> bytes:
    told = {"symbol": rows.symbol, "source": rows.source, "content": rows.content, "lengths": rows.lengths,
            "features": FORECAST_BAR}
    return json.dumps(told, sort_keys=True).encode()
