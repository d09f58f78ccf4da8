"""Batches in over HTTP: what is taken, what is refused and leaves the lake as it was, what is reported."""

import gzip
import io
import socket
import struct
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import zstandard
from litestar.testing import TestClient

from pricepulse.app import create_app
from pricepulse.settings import Settings
from tests.intake import (
    ANY,
    BATCHES,
    CSV,
    HEAD,
    NDJSON,
    OBSERVATIONS,
    PARQUET,
    SMALL,
    Intake,
    csv,
    row,
    until,
)
from tests.pipeline import ndjson
from tests.served import HOUR, KEY_HEADER, Row, look, problem


def test_a_batch_is_taken_with_its_counts(intake: Intake) -> None:
    began = datetime.now(UTC)
    body = csv(
        row("A"),
        row("B", "x"),
        row("B", "-1"),
        row("C", when="2026-05-01T10:00:00"),
        row("A"),  # the same again: no fault
        row("first"),
    )
    answer = intake.post(body)
    assert answer.status_code == 201
    told = answer.json()
    assert answer.headers["location"] == f"{BATCHES}/{told['batch_id']}"
    received = datetime.fromisoformat(told.pop("received_at"))
    assert began <= received <= datetime.now(UTC)
    assert len(told.pop("content_hash")) == 64
    batch_id = told.pop("batch_id")
    assert told == {
        "status": "stored",
        "source": "http",
        "rows": 6,
        "accepted": 3,
        "rejected": 3,
        "rejected_by_rule": {"not_a_number": 1, "not_above_zero": 1, "time_without_offset": 1},
        "superseded": 0,
        "new_offers": 1,
        "unknown_columns": ["colour"],
        "duplicate": False,
    }
    assert intake.client.get(answer.headers["location"], headers=KEY_HEADER).json() == answer.json()
    assert intake.get(BATCHES)["items"][0] == answer.json()
    assert intake.get(f"{BATCHES}/{batch_id}/rejected") == {
        "items": [
            {"line": 3, "field": "price", "rule": "not_a_number", "value": "x", "kept": False},
            {"line": 4, "field": "price", "rule": "not_above_zero", "value": "-1", "kept": False},
            {
                "line": 5,
                "field": "observed_at",
                "rule": "time_without_offset",
                "value": "2026-05-01T10:00:00",
                "kept": False,
            },
        ],
        "next_cursor": None,
    }


def test_the_same_content_is_the_same_batch(intake: Intake) -> None:
    first = intake.post(csv(row("twice"), row("bad", "0")))
    before = intake.state()
    again = intake.post(csv(row("twice"), row("bad", "0")))
    assert again.status_code == 200
    assert again.json() == first.json() | {"duplicate": True}
    assert again.headers["location"] == first.headers["location"]
    assert intake.state() == before
    # Other bytes are another delivery, also of the same rows.
    packed = intake.post(gzip.compress(csv(row("twice"), row("bad", "0")), mtime=1))
    assert (packed.status_code, packed.json()["new_offers"]) == (201, 0)


def test_idempotency_keys(intake: Intake) -> None:
    first = intake.post(csv(row("key-1")), idempotency_key="run-1")
    assert first.status_code == 201
    before = intake.state()
    same = intake.post(csv(row("key-1")), idempotency_key="run-1")
    assert (same.status_code, same.json()) == (200, first.json() | {"duplicate": True})
    told = problem(intake.post(csv(row("key-2")), idempotency_key="run-1"), 409)
    assert told["detail"] == (
        "the Idempotency-Key 'run-1' was used before for other content; send the same bytes again, "
        "or choose a new key"
    )
    assert intake.state() == before
    other_key = intake.post(csv(row("key-1")), idempotency_key="run-2")
    assert (other_key.status_code, other_key.json()["batch_id"]) == (200, first.json()["batch_id"])
    for bad in ("", "x" * 201, "a b", "a\tb"):
        told = problem(intake.post(csv(row("key-3")), idempotency_key=bad), 400)
        assert told["errors"][0]["pointer"].lower() == "/header/idempotency-key"
    assert problem(intake.post(csv(row("key-2")), idempotency_key="run-2"), 409)
    # The new key is remembered with its content, nothing else.
    assert intake.state()[1:] == before[1:]


def parquet(skus: list[str]) -> bytes:
    frame = pl.DataFrame(
        {
            "retailer": "shop",
            "sku": skus,
            "observed_at": datetime(2026, 5, 1, 10, tzinfo=UTC),
            "price": pl.Series([19.99] * len(skus)),
            "currency": "EUR",
        }
    )
    file = io.BytesIO()
    frame.write_parquet(file)
    return file.getvalue()


def as_ndjson(sku: str) -> bytes:
    rows: list[Row] = [look("shop", sku, HOUR, "19.99")]
    return ndjson(rows).encode()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (CSV, csv(row("f1"))),
        ("Text/CSV; charset=utf-8", csv(row("f2"))),
        (NDJSON, as_ndjson("f3")),
        (PARQUET, parquet(["f4"])),
        (ANY, csv(row("f5"))),
        (ANY, as_ndjson("f6")),
        (ANY, parquet(["f7"])),
        (ANY, gzip.compress(parquet(["f8"]))),
        (CSV, gzip.compress(csv(row("f9")))),
        (NDJSON, gzip.compress(as_ndjson("f10"))),
        (CSV, zstandard.compress(csv(row("f11")))),
        (NDJSON, zstandard.compress(as_ndjson("f12"))),
        (CSV, gzip.compress(HEAD.encode() + b"\n") + gzip.compress(row("f13").encode())),
        (CSV, csv(row("f14")).replace(b"\n", b"\r\n")),
        (CSV, b"\xef\xbb\xbf" + csv(row("f15"))),
    ],
)
def test_every_format(intake: Intake, kind: str, body: bytes) -> None:
    answer = intake.post(body, kind)
    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert (told["rows"], told["accepted"], told["new_offers"]) == (1, 1, 1)


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP", "identity"])
def test_a_content_encoding_says_what_the_content_says_too(intake: Intake, coding: str) -> None:
    body = gzip.compress(csv(row(f"coded {coding}")))
    answer = intake.post(body, content_encoding=coding)
    assert (answer.status_code, answer.json()["accepted"]) == (201, 1)


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", ""])
def test_codings_that_are_not_read(intake: Intake, coding: str) -> None:
    told = problem(intake.post(csv(row("br")), content_encoding=coding), 415)
    assert told["detail"] == (
        f"the Content-Encoding {coding!r} is not one of identity, gzip, x-gzip, zstd"
    )


@pytest.mark.parametrize(
    "kind", ["application/json", "text/plain", "", "multipart/form-data", "csv"]
)
def test_other_content_types(intake: Intake, kind: str) -> None:
    before = intake.state()
    told = problem(intake.post(csv(row("type")), kind), 415)
    assert "one of text/csv, application/x-ndjson, application/vnd.apache.parquet" in told["detail"]
    assert intake.state() == before


def test_without_the_key_nothing_is_told_and_nothing_taken(intake: Intake) -> None:
    before = intake.state()
    body = csv(row("secret"))
    addresses = [BATCHES, f"{BATCHES}/1", f"{BATCHES}/1/rejected", "/api/v1/ingest/suspects"]
    wrong = ["", "Bearer", "Bearer wrong", "Basic " + KEY_HEADER["authorization"][7:]]
    wrong += [KEY_HEADER["authorization"][7:], KEY_HEADER["authorization"] + "x", "Bearer  x y"]
    for sent in wrong:
        head = {"authorization": sent, "content-type": CSV}
        answers = [intake.client.post(OBSERVATIONS, content=body, headers=head)]
        answers += [intake.client.get(a, headers={"authorization": sent}) for a in addresses]
        for answer in answers:
            told = problem(answer, 401)
            assert answer.headers["www-authenticate"].startswith('Bearer realm="pricepulse"')
            assert told["type"] == "/problems/unauthorized"
    told = problem(
        intake.client.post(OBSERVATIONS, content=body, headers={"content-type": CSV}), 401
    )
    assert told["detail"] == "send an access token or an API key as 'Authorization: Bearer …'"
    assert intake.state() == before


def test_a_server_without_a_key_takes_nothing(tmp_path: Path) -> None:
    with TestClient(create_app(Settings.from_env({}, data=tmp_path))) as client:
        head = {"content-type": CSV} | KEY_HEADER
        for answer in (
            client.post(OBSERVATIONS, content=csv(row("A")), headers=head),
            client.get(BATCHES, headers=head),
        ):
            problem(answer, 401)
    assert not (tmp_path / "incoming").exists()


GOOD = row("good") + "\n"
DEEP = b'{"retailer":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
PACKED = gzip.compress("".join([HEAD, "\n", *(row(f"s{i}") + "\n" for i in range(5000))]).encode())
WHOLE = parquet([f"p{i}" for i in range(5000)])
# (name, Content-Type, body, status, a part of what is told)
BAD: list[tuple[str, str, bytes, int, str]] = [
    ("empty", CSV, b"", 400, "the upload is empty"),
    ("empty in gzip", CSV, gzip.compress(b""), 400, "the upload is empty"),
    ("header only", CSV, csv(), 400, "the upload has no rows"),
    ("missing column", CSV, b"retailer,sku,price,currency\na,b,1,EUR\n", 422, "observed_at"),
    ("wrong columns", CSV, b"shop;item;cost\na;b;1\n", 422, "separated by ',', not ';'"),
    ("columns twice", CSV, f"{HEAD},sku\n{row('x')},y\n".encode(), 422, "more than once"),
    ("no columns at all", NDJSON, b"{}\n", 422, "missing required columns"),
    ("missing column in Parquet", PARQUET, b"", 400, "the upload is empty"),
    ("truncated gzip", CSV, PACKED[: len(PACKED) // 2], 400, "gzip data is broken"),
    ("gzip without its end", CSV, PACKED[:-4], 400, "gzip data is broken"),
    ("truncated zstd", CSV, zstandard.compress(gzip.decompress(PACKED))[:-9], 400, "zstd data"),
    ("half a Parquet file", PARQUET, WHOLE[: len(WHOLE) // 2], 400, "Parquet"),
    ("the other half", PARQUET, WHOLE[len(WHOLE) // 2 :], 415, "parquet"),
    ("Parquet with a hole", PARQUET, WHOLE[:200] + bytes(400) + WHOLE[600:], 400, "Parquet"),
    ("100,000 levels", NDJSON, DEEP, 400, "line 1"),
    ("not JSON", NDJSON, as_ndjson("n") + b"{'sku': 1}\n", 400, "line 2"),
    ("a JSON array", NDJSON, b"[" + as_ndjson("n") + b"]", 415, "JSON array"),
    ("JSON that never ends", NDJSON, b'{"retailer": "a', 400, "line 1"),
    ("invalid UTF-8", CSV, csv(row("ok")) + b"shop,\xff\xfe,2026", 400, "line 3: not valid UTF-8"),
    ("a NUL byte", CSV, csv(row("ok"), row("a\0b")), 400, "line 3: a NUL byte"),
    ("UTF-16", CSV, csv(row("ok")).decode().encode("utf-16"), 415, "UTF-16"),
    ("a quote never closed", CSV, csv(row("ok"), '"' + row("x")), 400, "never closed"),
    ("too many fields", CSV, csv(row("ok"), row("x") + ",,,,,1"), 400, "line 3"),
    ("a 100 MB line", CSV, gzip.compress(csv(row("x" * 100_000_000)), 1), 400, "line 2: the record is"),
    ("a picture", ANY, b"\x89PNG\r\n\x1a\n" + bytes(64), 400, "line 1: not valid UTF-8"),
    ("a ZIP archive", ANY, b"PK\x03\x04" + bytes(100), 415, "a ZIP archive"),
    ("a page", ANY, b"<!doctype html><html></html>", 415, "XML or HTML"),
    ("twice compressed", ANY, gzip.compress(gzip.compress(csv(row("x")))), 415, "compressed twice"),
    ("CSV as NDJSON", NDJSON, csv(row("x")), 415, "announced as ndjson, but its content is csv"),
    ("Parquet as CSV", CSV, WHOLE, 415, "announced as csv, but its content is parquet"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "body", "status", "told"), [each[1:] for each in BAD], ids=[each[0] for each in BAD]
)
def test_bad_input_is_told_and_leaves_nothing(
    intake: Intake, kind: str, body: bytes, status: int, told: str
) -> None:
    before = intake.state()
    detail = problem(intake.post(body, kind), status)["detail"]
    assert told in detail
    assert "tmp" not in detail
    assert str(intake.pipeline.folder) not in detail
    assert intake.state() == before


def bomb(gigabytes: int) -> bytes:
    """Rows that are valid, then zeros: gzip members of 64 MB each, 64 kB packed."""
    member = gzip.compress(bytes(1 << 26), 9)
    return gzip.compress(csv(row("bomb"))) + member * (gigabytes * 16)


def test_ten_gigabytes_of_zeros(intake: Intake) -> None:
    before = intake.state()
    body = bomb(10)
    assert len(body) < 11 << 20
    began = time.monotonic()
    problem(intake.post(body), 400)
    problem(intake.post(body[len(gzip.compress(csv(row("bomb")))) :], ANY), 400)
    assert time.monotonic() - began < 10
    assert intake.state() == before


def test_a_feed_is_measured_unpacked(small: Intake) -> None:
    before = small.state()
    packed = gzip.compress(csv(*[row("same")] * 10_000))
    assert len(packed) < SMALL < len(gzip.decompress(packed))
    for body in (packed, bomb(2)[:SMALL]):
        told = problem(small.post(body), 413)
        assert "larger than 100,000 bytes after decompression" in told["detail"]
    assert small.state() == before
    assert small.post(gzip.compress(csv(*[row("same")] * 1000))).status_code == 201


def raw_request(head: dict[str, str]) -> bytes:
    sent = {"host": "x", "content-type": CSV} | KEY_HEADER | head
    lines = [f"POST {OBSERVATIONS} HTTP/1.1", *(f"{n}: {v}" for n, v in sent.items()), "", ""]
    return "\r\n".join(lines).encode()


def connected(intake: Intake) -> socket.socket:
    url = intake.client.base_url
    assert url.port
    return socket.create_connection((url.host, url.port), timeout=20)


def test_a_large_upload_is_refused_before_it_is_read(small: Intake) -> None:
    before = small.state()
    with connected(small) as wire:
        wire.sendall(raw_request({"content-length": str(10 << 30)}))
        assert wire.recv(12) == b"HTTP/1.1 413"
    with connected(small) as wire:
        wire.sendall(raw_request({"transfer-encoding": "chunked"}))
        block = b"%x\r\n%s\r\n" % (SMALL // 2, b"x" * (SMALL // 2))
        wire.sendall(block * 3)  # and then waits: the end never comes
        assert wire.recv(12) == b"HTTP/1.1 413"
    told = problem(small.post(b"x" * (SMALL + 1)), 413)
    assert told["detail"] == (
        "the upload is over 100000 bytes (PRICEPULSE_MAX_UPLOAD_BYTES); send it in parts, or "
        "compressed with gzip or zstd"
    )
    until(lambda: not small.incoming(), "the upload's file is left over")
    assert small.state() == before


@pytest.mark.parametrize("rude", [False, True], ids=["closed", "reset"])
def test_a_client_that_goes_away_leaves_nothing(intake: Intake, rude: bool) -> None:
    before = intake.state()
    body = csv(*(row(f"gone{i}") for i in range(60_000)))
    with connected(intake) as wire:
        wire.sendall(raw_request({"content-length": str(len(body))}) + body[: len(body) // 2])
        until(lambda: bool(intake.incoming()), "the upload did not begin")
        if rude:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: not intake.incoming(), "the upload's file is left over")
    assert intake.state() == before


def test_a_time_is_in_the_future_by_the_servers_clock(intake: Intake) -> None:
    now = datetime.now(UTC)
    soon, later = ((now + timedelta(minutes=m)).isoformat() for m in (4, 6))
    told = intake.post(csv(row("soon", when=soon), row("later", when=later))).json()
    assert (told["accepted"], told["rejected_by_rule"]) == (1, {"time_in_future": 1})
    assert told["new_offers"] == 1
