"""The benchmarks: each piece of work runs; chart and tables are right, from numbers that were not measured."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks import chart, goals, machine, page, real_server, report, scaling, short_instances
from benchmarks.goals import Row, Work
from benchmarks.measure import Bench, Sample, load_source
from tests.testing.official import official_python

ROOT = Path(__file__).parent.parent
SVG = "{http://www.w3.org/2000/svg}"
RELEASES = (goals.OFFICIAL, goals.OFFICIAL_REAL)


def measured(work: Work, **medians: float) -> Row:
    row = Row(work)
    for client in work.runs:
        row.samples[client] = Sample()
        row.samples[client].values.append(medians.get(client.partition("_")[0], 1.0))
    return row


def rows(**medians: float) -> list[Row]:
    return [measured(work, **medians) for work in goals.works(1.0, ("ours", "official", "plain", "bare"))]


def real(**medians: float) -> list[Row]:
    return [measured(work, **medians) for together in real_server.works(20_000, 1_000) for work in together]


#: Each piece of work against the load source, once for each client and in small.
SMALL = [
    (client, kind, {**numbers, **({"size": 1024 * 1024} if "load" in kind else {})})
    for work in goals.works(0.001, ("ours", "official", "plain", "bare"))
    for client, (kind, numbers) in work.runs.items()
    if kind != "import"
] + [
    (client, kind, numbers)
    for client in short_instances.CLIENTS
    for kind, numbers in (
        ("batch", {"count": 100, "concurrency": 16}),
        ("one_by_one", {"times": 20}),
        ("one_by_one", {"times": 20, "on_one_processor": True}),
    )
    if sys.platform == "linux" or "on_one_processor" not in numbers
]


@pytest.fixture(scope="module")
def bench():
    with load_source() as uri:
        yield Bench(uri, official_python(goals.OFFICIAL), rounds=1)


@pytest.mark.parametrize(("client", "kind", "numbers"), SMALL, ids=lambda value: str(value).replace(" ", ""))
def test_each_client_can_do_its_work(bench, client, kind, numbers):
    result = bench.run(client, kind, numbers)
    taken = result["times"] if "times" in result else [result["seconds"]]
    assert len(taken) == numbers.get("times", 1)
    assert min(taken) > 0


def texts(svg: str) -> list[str]:
    return [str(text.text) for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_the_chart_has_a_group_for_each_release_of_the_official_client():
    shown = texts(chart.draw(rows(ours=3.0), real(ours=1.25)))
    first, second = (
        shown.index(f"red line: pie-client {release}, the official async client = 1")
        for release in reversed(RELEASES)
    )
    assert first < second
    of_real, of_source = shown[first:second], shown[second:]
    assert "20,000 events of 100 bytes" in of_real
    assert f"1.25 {report.TIMES}" in of_real
    assert "200,000 events of 100 bytes, by recv()" in of_source
    assert f"3.00 {report.TIMES}" in of_source
    assert f"3.00 {report.TIMES}" not in of_real


def test_where_less_is_better_the_chart_shows_how_many_times_as_quick():
    (ping,) = [row for row in real(ours=0.5) if row.work.title == "ping, median"]
    assert chart.speeds(ping) == {"ours": 2.0}


def test_the_chart_shows_speeds_only_and_none_that_hides_the_others():
    shown = texts(chart.draw(rows(), real()))
    assert not [text for text in shown if "processor time" in text or "TCP_NODELAY" in text]


@pytest.mark.parametrize("release", RELEASES)
def test_title_and_description_of_the_chart_name_the_releases(release):
    for svg in (chart.draw(rows(), real()), (ROOT / "docs" / "performance.svg").read_text()):
        root = ElementTree.fromstring(svg)
        assert release in str(root.findtext(f"{SVG}title"))
        assert f"relative to pie-client {release}:" in str(root.findtext(f"{SVG}desc"))


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", ["README.md", "docs/performance.md"])
def test_the_text_in_place_of_the_chart_names_the_releases(name, release):
    (text,) = re.findall(r"!\[([^\]]*)\]\([\w/]*performance\.svg\)", (ROOT / name).read_text())
    assert release in text


def test_the_ratio_is_the_second_column():
    head, _, first, *_ = report.goals(rows(ours=3.0), "1.2.3").splitlines()
    assert re.findall(r"[^|\s][^|]*?(?=\s*\|)", head)[:5] == [
        "work",
        "ratio",
        "unit",
        "pie-sync",
        "pie-client 1.2.3",
    ]
    assert re.findall(r"[^|\s][^|]*?(?=\s*\|)", first)[1:4] == [f"3.00 {report.TIMES}", "events/s", "3.0"]


def test_the_page_is_written_from_rows(monkeypatch):
    monkeypatch.setattr(machine, "describe", lambda bench: [("processor", "a good one")])
    scale = scaling.Scale(1)
    for cost in scale.orders.values():
        cost.wall.values.append(1.0)
        cost.cpu.values.append(1.0)
    text = page.write(
        Bench("ws://host", Path("python"), 5), rows(), [scale], rows(), real=real(), batches="", servers=""
    )
    for release in RELEASES:
        assert f" pie-client {release} |" in text
    assert "{" not in re.sub(r"`[^`]*`", "", text)
    assert max(len(line) for line in text.splitlines() if not line.startswith("|")) <= 120
