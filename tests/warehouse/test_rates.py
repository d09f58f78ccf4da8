"""Reference rates: the ECB's files, what the lake and a build make of them, and exact conversion."""

from __future__ import annotations

import random
import zipfile
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests import oracle_rates
from tests.oracle_rates import Table, ecb, working_days
from tests.pipeline import NOW, Pipeline
from tests.warehouse.test_build import assert_incremental_is_full, look
from warehouse import rates_file as reading
from warehouse.connection import Reader
from warehouse.conversion import Pair, Rates
from warehouse.currencies import CURRENCIES
from warehouse.rates_file import RatesError, RatesFile, read_rates

TODAY = NOW.date()
FRIDAY = date(2026, 11, 20)
Pipelines = Callable[[], Pipeline]

HISTORY = (
    "Date,USD,JPY,CYP,TRL,\n"
    "2026-11-20,1.1532,178.05,N/A,N/A,\n"
    "2026-11-19,1.15,N/A,N/A,N/A,\n"
    "1999-01-04,1.1789,133.73,0.58231,372274,\n"
)
ONE_DAY = "Date, USD, JPY, GBP, \n20 November 2026, 1.1532, 178.05, 0.87675, \n"


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes | str], RatesFile]:
    def of(content: bytes | str) -> RatesFile:
        path = tmp_path / "rates"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_rates(path, TODAY)

    return of


Read = Callable[[bytes | str], RatesFile]


def zipped(tmp_path: Path, **members: str | bytes) -> bytes:
    path = tmp_path / "made.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("_", "."), content)
    return path.read_bytes()


# The files


def test_the_history(read: Read) -> None:
    found = read(HISTORY)
    assert found.rates.rows() == [
        (FRIDAY, "USD", Decimal("1.1532")),
        (FRIDAY, "JPY", Decimal("178.05")),
        (date(2026, 11, 19), "USD", Decimal("1.15")),
        (date(1999, 1, 4), "USD", Decimal("1.1789")),
        (date(1999, 1, 4), "JPY", Decimal("133.73")),
    ]
    assert (found.first, found.last, found.days) == (date(1999, 1, 4), FRIDAY, 3)
    assert found.currencies == ("JPY", "USD")
    assert found.withdrawn == ("CYP", "TRL")
    assert not reading.WITHDRAWN & CURRENCIES


def test_the_file_of_one_day(read: Read) -> None:
    found = read(ONE_DAY)
    assert found.rates.rows() == [
        (FRIDAY, "USD", Decimal("1.1532")),
        (FRIDAY, "JPY", Decimal("178.05")),
        (FRIDAY, "GBP", Decimal("0.87675")),
    ]
    assert (found.first, found.last, found.days, found.withdrawn) == (FRIDAY, FRIDAY, 1, ())


def test_the_same_in_other_dress(read: Read, tmp_path: Path) -> None:
    expected = read(HISTORY).rates.rows()
    for content in (
        "\ufeff" + HISTORY,
        HISTORY.replace("\n", "\r\n"),
        HISTORY.replace(",\n", "\n"),
        HISTORY.replace(",", " ,\t"),
        HISTORY + "\n\n",
        HISTORY.replace("1.15,", "1.150000000,").replace("2026-11-20", "20 November 2026"),
        zipped(tmp_path, eurofxref_csv=HISTORY),
        zipped(tmp_path, README_txt="about", eurofxref_CSV=HISTORY),
    ):
        assert read(content).rates.rows() == expected


def test_the_ends_of_what_a_rate_may_be(read: Read) -> None:
    given = "Date,USD,JPY\n2026-11-20,0.000001,999999999999.999999\n"
    assert [row[2] for row in read(given).rates.rows()] == [
        Decimal("0.000001"),
        Decimal("999999999999.999999"),
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        (b"\xff\xfe\x00D", "no text"),
        (b"\x1f\x8b\x08\x00", "no text"),
        ("Date,USD\n", "no rate in it"),
        ("Date,USD\n2026-11-20,N/A\n", "no rate in it"),
        ("Date,CYP\n2007-11-20,0.5\n", "no rate in it"),
        ("Date\n2026-11-20\n", "names no currency"),
        ("Date,\n2026-11-20,\n", "names no currency"),
        ("date,USD\n2026-11-20,1\n", "begins with 'date'"),
        ("USD,Date\n1,2026-11-20\n", "begins with 'USD'"),
        ("\nDate,USD\n2026-11-20,1\n", "begins with ''"),
        ("<html>\n", "begins with '<html>'"),
        ("Date,USD,USX\n2026-11-20,1,1\n", "the column 'USX' is no currency"),
        ("Date,usd\n2026-11-20,1\n", "the column 'usd' is no currency"),
        ("Date,,USD\n2026-11-20,,1\n", "the column '' is no currency"),
        ("Date,EUR\n2026-11-20,1\n", "the column 'EUR' is what the rates are per"),
        ("Date,USD,USD\n2026-11-20,1,1\n", "the column USD is there more than once"),
        ("Date,USD,JPY\n2026-11-20,1\n", "line 2 has 2 cells, the header has 3"),
        ("Date,USD,\n2026-11-20,1.15", "line 2 has 2 cells, the header has 3"),
        ("Date,USD,\n2026-11-20,1,5,\n", "line 2 has 4 cells"),
        ("Date,USD,\n2026-11-20,1,5\n", "line 2 has 3 cells"),
        ("Date,USD\n2026-11-20,1\n2026-11-19,1\n2026-11-20,1\n", "line 4: the day 2026-11-20"),
        ("Date,USD\n2026-11-20,1\n20 November 2026,1\n", "line 3: the day 2026-11-20"),
        ("Date,USD\n2026-11-23,1\n", "line 2: the day 2026-11-23 is in the future"),
        *(
            (f"Date,USD\n{day},1\n", f"line 2: {day.strip()!r} is no day")
            for day in ("", "20.11.2026", "2026-11-31", "2026-W10-1", "20261120", "2026-11-20T00:00",
                        "31 November 2026", "20 Nov 2026", "20 November", "0 May 2026", "x May 2026",
                        "٢٠٢٦-١١-٢٠", "20 November -2026", "٢٠ November ٢٠٢٦", "20 may 2026")
        ),
        *(
            (f"Date,USD\n2026-11-20,{rate}\n", f"line 2: the rate {rate.strip()!r} of USD")
            for rate in ("", "0", "0.000", "-1.5", "+1", "1e3", "NaN", "n/a", "1.", ".5", "1 000",
                         "0.0000001", "1.0000001", "1000000000000", "١", "Infinity", "0x1")
        ),
    ],
)  # fmt: skip
def test_what_is_refused(read: Read, content: bytes | str, told: str) -> None:
    with pytest.raises(RatesError) as refused:
        read(content)
    assert told in str(refused.value)


def test_zips_that_are_refused(read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = zipped(tmp_path, a_csv=HISTORY)
    locked = bytearray(good)
    for sign, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[good.index(sign) + flags] |= 1
    broken = bytearray(good)
    broken[45] ^= 255
    for content, told in (
        (
            zipped(tmp_path, a_csv=HISTORY, b_csv=HISTORY),
            "must hold one CSV file; it has a.csv, b.csv",
        ),
        (zipped(tmp_path, a_txt=HISTORY), "must hold one CSV file; it has none"),
        (zipped(tmp_path, a_csv=""), "is empty"),
        (good[:-30], "cannot be unpacked"),
        (bytes(locked), "cannot be unpacked"),
        (bytes(broken), "cannot be unpacked"),
        (b"PK\x03\x04", "cannot be unpacked"),
    ):
        with pytest.raises(RatesError) as refused:
            read(content)
        assert told in str(refused.value)
    # A bomb is not unpacked: only as much as may be there, and a byte.
    monkeypatch.setattr(reading, "MOST_BYTES", 1000)
    for large in (zipped(tmp_path, a_csv=HISTORY + "\n" * 10**6), HISTORY + "\n" * 1000):
        with pytest.raises(RatesError, match="larger than 1,000 bytes"):
            read(large)


# The lake and the build


def shown(pipeline: Pipeline) -> Table:
    table: Table = {}
    for day, currency, rate in pipeline.query("FROM reference_rate"):
        assert currency not in table.setdefault(day, {})
        table[day][currency] = rate
    return table


def with_euro(table: Table) -> Table:
    return {day: {"EUR": Decimal(1)} | rates for day, rates in table.items()}


def test_stored_once_corrected_and_shown(pipeline: Pipeline) -> None:
    table = working_days(FRIDAY, 30)
    count = sum(map(len, table.values()))
    assert pipeline.put_rates(ecb(table)) == (count, 0)
    snapshot = pipeline.lake.snapshot()
    assert pipeline.put_rates(ecb(table)) == (0, 0)
    assert pipeline.put_rates(ecb(dict([table.popitem()]))) == (0, 0)
    assert pipeline.lake.snapshot() == snapshot, "nothing was committed"
    table = working_days(FRIDAY, 30)
    pipeline.put([look(0, "5", currency="USD")])
    assert pipeline.build().kind == "full"
    assert shown(pipeline) == with_euro(table)
    # A correction and a day more; nothing is taken back by a file that lacks it.
    table[FRIDAY]["USD"] += 1
    table[TODAY] = {"USD": Decimal("1.5")}
    assert pipeline.put_rates(ecb({day: table[day] for day in (TODAY, FRIDAY)})) == (1, 1)
    assert_incremental_is_full(pipeline)
    assert shown(pipeline) == with_euro(table)
    assert pipeline.build().kind == "none"


def test_a_correction_counts_whatever_the_clock_says(pipeline: Pipeline) -> None:
    first, second = ({FRIDAY: {"USD": Decimal(rate)}} for rate in ("1.2", "1.1"))
    pipeline.put_rates(ecb(first), now=NOW + timedelta(days=400))
    assert pipeline.put_rates(ecb(second), now=NOW) == (0, 1)
    assert pipeline.put_rates(ecb(second), now=NOW) == (0, 0)
    pipeline.build()
    assert shown(pipeline) == with_euro(second)
    assert pipeline.put_rates(ecb(first), now=NOW - timedelta(days=1)) == (0, 1)
    assert_incremental_is_full(pipeline)
    assert shown(pipeline) == with_euro(first)


def test_a_rate_that_jumps_is_refused_unless_accepted(pipeline: Pipeline) -> None:
    days = [FRIDAY - timedelta(days=back) for back in range(3)]
    true: Table = {day: {"USD": Decimal("1.15"), "JPY": Decimal(178)} for day in days}
    pipeline.put_rates(ecb({days[2]: true[days[2]]}))
    snapshot = pipeline.lake.snapshot()
    far = {days[1]: {"USD": Decimal(1150), "JPY": Decimal("1.78")}}
    for table, told in (
        (
            far,
            "JPY on 2026-11-19 is 100 times less than the 178 of 2026-11-18 (1 more like that); ",
        ),
        (
            {days[1]: {"USD": Decimal(1150)}},
            "1150 of USD on 2026-11-19 is 1,000 times the 1.15 of 2026",
        ),
        (
            {days[2]: {"USD": Decimal(115)}},
            "USD on 2026-11-18 is 100 times the 1.15 stored for that day",
        ),
        ({days[0]: true[days[0]], **far}, "JPY on 2026-11-19 is 100 times less"),
    ):
        with pytest.raises(RatesError, match="--accept-jumps") as refused:
            pipeline.put_rates(ecb(table))
        assert told in str(refused.value)
    assert pipeline.lake.snapshot() == snapshot
    with pytest.raises(RatesError, match=r"10\.845 of USD on 2026-11-19 is 9\.4 times the 1\.15 "):
        pipeline.put_rates(ecb({days[1]: {"USD": Decimal("10.845")}}))  # slipped by one place
    assert pipeline.put_rates(ecb({days[1]: {"USD": Decimal("3.4")}})) == (1, 0)
    assert pipeline.put_rates(ecb(far), accept_jumps=True) == (1, 1)
    assert pipeline.put_rates(ecb(far)) == (0, 0), "what is stored is not asked again"
    with pytest.raises(RatesError, match="the 1150 of 2026-11-19"):
        pipeline.put_rates(ecb({days[0]: {"USD": Decimal("1.15")}}))
    for currency in ("USD", "JPY"):
        pipeline.remove_rate(days[1], currency)
    assert pipeline.put_rates(ecb(true)) == (4, 0)


def test_a_rate_is_removed_until_it_comes_again(pipeline: Pipeline) -> None:
    table = working_days(FRIDAY, 30)
    pipeline.put([look(0, "5", currency="USD")])
    pipeline.put_rates(ecb(table))
    pipeline.put_rates(ecb({TODAY: {"USD": Decimal("1.2")}}))
    pipeline.build()
    pipeline.remove_rate(FRIDAY, "USD")
    pipeline.remove_rate(TODAY, "USD")
    removed = table | {FRIDAY: {n: rate for n, rate in table[FRIDAY].items() if n != "USD"}}
    assert_incremental_is_full(pipeline)
    assert shown(pipeline) == with_euro(removed), "and no euro on a day without rates"
    for day, currency in ((FRIDAY, "USD"), (FRIDAY, "CHF"), (date(1990, 1, 1), "USD")):
        with pytest.raises(RatesError, match=f"no rate of {currency} on {day}"):
            pipeline.remove_rate(day, currency)
    pipeline.lake.merge_small_files()
    assert pipeline.put_rates(ecb(table)) == (1, 0)
    assert_incremental_is_full(pipeline)
    assert shown(pipeline) == with_euro(table)


def test_rates_survive_merging(pipeline: Pipeline) -> None:
    """Inlined rows and files alike; merging is nothing new for a build."""
    table = working_days(FRIDAY, 100)
    pipeline.put([look(0, "5")])
    pipeline.put_rates(ecb(table))
    pipeline.build()
    table[FRIDAY]["USD"] += 1
    pipeline.put_rates(ecb({FRIDAY: table[FRIDAY]}))
    pipeline.lake.merge_small_files()
    assert_incremental_is_full(pipeline)
    pipeline.lake.merge_small_files()
    assert pipeline.build().kind == "none"
    assert shown(pipeline) == with_euro(table)


def test_a_refused_file_leaves_the_lake_as_it_was(pipeline: Pipeline) -> None:
    pipeline.build()
    snapshot = pipeline.lake.snapshot()
    with pytest.raises(RatesError):
        pipeline.put_rates(ecb(working_days(FRIDAY, 30)) + "2026-01-01,0,0,0,0,0,\n")
    assert pipeline.lake.snapshot() == snapshot
    assert pipeline.build().kind == "none"


def test_a_lake_of_an_older_release_gets_the_table(pipeline: Pipeline) -> None:
    pipeline.put([look(0, "5")])
    pipeline.lake.commit(lambda cursor: cursor.execute("DROP TABLE lake.reference_rate"))
    pipeline.lake.close()
    again = Pipeline(pipeline.folder, delivered=1)
    assert again.build().kind == "full"
    assert again.put_rates(ecb({FRIDAY: {"USD": Decimal("1.1")}})) == (1, 0)
    assert_incremental_is_full(again)
    again.lake.close()


def test_a_file_of_an_older_release_has_no_rates(pipeline: Pipeline) -> None:
    with duckdb.connect() as file:
        rates = Rates.read(file)
    assert rates.currencies == ()
    assert rates.pair("EUR", "USD").on(20_000) is None


def test_a_reader_sees_the_currencies_there_are(pipeline: Pipeline) -> None:
    reader = Reader(pipeline.folder)
    seen = []
    for table in ({}, working_days(FRIDAY, 30)):
        if table:
            pipeline.put_rates(ecb(table))
        pipeline.build()
        reader.refresh()
        assert reader.current is not None
        seen.append(reader.current.rates.currencies)
    assert seen == [(), ("EUR", "GBP", "IDR", "JPY", "KRW", "USD")]


# Conversion


MONEY = st.integers(1, 10**16 - 1).map(lambda units: Decimal(units).scaleb(-4))
RATE = st.one_of(
    st.integers(1, 10**18 - 1), st.integers(1, 10**9), st.sampled_from([1, 3, 10**6])
).map(lambda units: Decimal(units).scaleb(-6))
UNITS = 10_000


def pair_of(rates: Table, known: str, wanted: str) -> Pair:
    """As a version makes it."""
    columns: dict[str, list[tuple[int, int]]] = {}
    for day in sorted(rates):
        for name, rate in ({"EUR": Decimal(1)} | rates[day]).items():
            row = (day - date(1970, 1, 1)).days, int(rate.scaleb(6))
            columns.setdefault(name, []).append(row)
    of = {
        name: (np.array([d for d, _ in rows]), np.array([u for _, u in rows]))
        for name, rows in columns.items()
    }
    return Rates(of).pair(known, wanted)


@settings(max_examples=300, deadline=None)
@given(prices=st.lists(MONEY, min_size=1, max_size=4), of=RATE, into=RATE)
@example([Decimal("0.0001")], Decimal(2), Decimal(1))  # half of the smallest is rounded up
@example([Decimal("0.0001")], Decimal("2.000001"), Decimal(1))
@example([Decimal("999999999999.9999")], Decimal(1), Decimal(100))
@example([Decimal("999999999999.9999")], Decimal(1), Decimal("100.000001"))
@example([Decimal(1), Decimal("999999999999.9999")], Decimal(1), Decimal(10**11))
def test_conversion_is_exact(prices: list[Decimal], of: Decimal, into: Decimal) -> None:
    """One by one and as columns; what is 10^14 or more is none."""
    table = {FRIDAY: {"GBP": of, "USD": into}}
    pair = pair_of(table, "GBP", "USD")
    day = (FRIDAY - date(1970, 1, 1)).days
    expected = [oracle_rates.converted(table, price, "GBP", "USD", FRIDAY) for price in prices]
    units = [int(price * UNITS) for price in prices]
    rate = pair.on(day)
    assert rate is not None
    alone = [rate.converted(each) for each in units]
    assert alone == [None if each is None else int(each * UNITS) for each in expected]
    made, used = pair.converted(np.array(units), np.full(len(units), day))
    assert [int(u) if d >= 0 else None for u, d in zip(made, used, strict=True)] == alone


def test_the_rate_of_the_last_day_before() -> None:
    """20 November is a Friday, and the 16th to the 18th have no rate of both."""
    table: Table = {
        date(2026, 11, n): {"USD": Decimal(n), "JPY": Decimal(100 + n)} for n in (12, 13, 19, 20)
    }
    for n in (16, 17, 18):
        table[date(2026, 11, n)] = {"USD" if n % 2 else "JPY": Decimal(50)}
    for known, wanted in (("USD", "JPY"), ("EUR", "USD"), ("JPY", "EUR"), ("USD", "CHF")):
        pair = pair_of(table, known, wanted)
        days = [date(2026, 11, 1) + timedelta(days=n) for n in range(30)]
        numbers = np.array([(day - date(1970, 1, 1)).days for day in days])
        made, used = pair.converted(np.full(30, 3 * UNITS), numbers)
        for place, day in enumerate(days):
            expected = oracle_rates.rates_on(table, known, wanted, day)
            rate = pair.on(int(numbers[place]))
            if expected is None:
                assert (rate, used[place], made[place]) == (None, -1, 0)
                continue
            assert rate is not None
            assert rate.day == used[place] == (expected[0] - date(1970, 1, 1)).days
            price = oracle_rates.converted(table, Decimal(3), known, wanted, day)
            assert price is not None
            assert made[place] == rate.converted(3 * UNITS) == price * UNITS


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 1000))
def test_the_macro_is_the_oracles(pipelines: Pipelines, seed: int) -> None:
    pipeline = pipelines()
    table = working_days(FRIDAY, 60)
    for hole in range(20, 32):
        table.pop(FRIDAY - timedelta(days=hole), None)
    pipeline.put_rates(ecb(table))
    pipeline.build()
    chance = random.Random(seed)
    names = ["EUR", "USD", "GBP", "JPY", "KRW", "IDR", "CHF"]
    asked = [
        (
            Decimal(chance.choice([1, 3, 199900, chance.randrange(1, 10**16)])).scaleb(-4),
            chance.choice(names),
            chance.choice(names),
            datetime(2026, 9, 10) + timedelta(minutes=chance.randrange(80 * 24 * 60)),
        )
        for _ in range(400)
    ]
    values = ", ".join(
        f"({n}, {price}::DECIMAL(18, 4), '{known}', '{wanted}', TIMESTAMP '{at}')"
        for n, (price, known, wanted, at) in enumerate(asked)
    )
    found = pipeline.query(
        "SELECT converted(a.price, a.currency, a.wanted, a.day) "
        f"FROM (VALUES {values}) AS a(n, price, currency, wanted, day) ORDER BY n"
    )
    expected = [
        oracle_rates.converted(table, price, known, wanted, at.date())
        for price, known, wanted, at in asked
    ]
    assert [price for (price,) in found] == expected
    assert None in expected
    assert len(set(expected)) > 100
