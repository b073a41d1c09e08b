import base64
import io
import re
import xml.etree.ElementTree as ET

import pytest
import torch
from PIL import Image

from undrift import report

TABLE = report.Table(
    ["task", "PSNR", "SSIM", "PSNR"],
    [["noisy", "17.45", "0.381", "24"], ["jpeg", "5.2", "0.9", "30.01"], ["mean", "1", "2", "3"]],
    groups=[("degraded", 2), ("a long name | of ours", 1)],
    totals=1,
)


def parsed(page: str) -> ET.Element:
    return ET.fromstring(page.removeprefix("<!DOCTYPE html>\n"))


def images(count, height=20, width=30):
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(3, 1, 1, generator=generator).expand(3, height, width) for _ in range(count)]


def test_text_columns_line_up():
    lines = TABLE.text().split("\n")
    group, head, rule, *rows = lines
    ends = [match.end() for match in re.finditer(r"\S+", head)]
    for row in [rows[0], rows[1], rows[3]]:
        assert [match.end() for match in re.finditer(r"\S+", row)][1:] == ends[1:]
    assert rows[2] == rule == "-" * len(head)
    assert group.index("degraded") + len("degraded") == ends[2]
    assert group.endswith("of ours")
    assert len(group) == ends[3]


def test_markdown_has_one_cell_per_column_and_escapes_bars():
    lines = TABLE.markdown().split("\n")
    assert [len(re.split(r"(?<!\\)\|", line)) - 2 for line in lines] == [4] * 5
    assert "a long name \\| of ours PSNR" in lines[0]


def test_html_table_is_well_formed_and_says_the_same():
    root = ET.fromstring(TABLE.html())
    rows = [[cell.text for cell in row] for part in ("tbody", "tfoot") for row in root.iter(part) for row in row]
    assert rows == [list(row) for row in TABLE.rows]
    assert [cell.get("colspan") for cell in root.find(".//tr")[1:]] == ["2", "1"]
    escaped = report.Table(["a"], [["<b>&"]]).html()
    assert ET.fromstring(escaped).find(".//td").text == "<b>&"


def test_tables_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="need 2 cells"):
        report.Table(["a", "b"], [["1"]])
    with pytest.raises(ValueError, match="span 1 columns"):
        report.Table(["a", "b"], [], groups=[("x", 2)])


def test_page_is_well_formed_and_self_contained():
    before, *after = images(3)
    slider = report.sliders(
        [report.Comparison('a <"b">', "1 → 2 dB", ("x & y", before), list(zip("pq", after, strict=True)))]
    )
    page = report.page(
        "T & <t>", "lead", [report.section("S", slider, TABLE.html(), note="<"), report.facts({"k": "&"})]
    )
    root = parsed(page)
    assert root.find(".//h1").text == "T & <t>"
    sources = [image.get("src") for image in root.iter("img")]
    assert len(sources) == 3
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not re.search(r"(src|href)=\"(?!data:)|url\(|@import|https?://", page)
    hidden = [image.get("hidden") for image in root.iter("img") if image.get("class") == "after"]
    assert hidden == [None, ""]
    assert [button.text for button in root.iter("button")] == ["p", "q"]
    assert "aspect-ratio:30/20" in root.find(".//*[@class='view']").get("style")


def test_pictures_of_the_page_are_the_images():
    image = images(1)[0]
    slider = parsed(report.page("t", "l", [report.sliders([report.Comparison("a", "", ("b", image), [("c", image)])])]))
    data = slider.find(".//img").get("src").partition(",")[2]
    shown = Image.open(io.BytesIO(base64.b64decode(data)))
    assert shown.size == (30, 20)
    expected = image[:, 0, 0].mul(255).tolist()
    assert shown.getpixel((15, 10)) == pytest.approx(expected, abs=3)


def test_grid_shows_every_image_at_its_size(tmp_path):
    strips = [report.Strip(f"task {i}", "1 to 2 dB", images(3, 40, 30)) for i in range(3)]
    strips[2] = report.Strip("last", "", [torch.full((3, 40, 30), v) for v in (0.2, 0.4, 0.6)])
    report.grid(tmp_path / "g.png", strips, ["a", "b", "c"], across=2)
    colours = Image.open(tmp_path / "g.png").convert("RGB").getcolors(1 << 20)
    counts = {colour: count for count, colour in colours}
    assert [counts[(v, v, v)] >= 40 * 30 for v in (51, 102, 153)] == [True] * 3
    for image in strips[0].images:
        colour = tuple(image[:, 0, 0].mul(255).round().int().tolist())
        assert counts[colour] >= 2 * 40 * 30  # in both of the first two strips


def test_grid_refuses_unlike_strips(tmp_path):
    with pytest.raises(ValueError, match="strips of 2 images"):
        report.grid(tmp_path / "g.png", [report.Strip("a", "", images(3))], ["a", "b"])
    with pytest.raises(ValueError, match="one size"):
        report.grid(tmp_path / "g.png", [report.Strip("a", "", images(1) + images(1, 8, 8))], ["a", "b"])


def curve_of(panels):
    return ET.fromstring(report.curves(panels)), "{http://www.w3.org/2000/svg}"


def test_curves_are_linear_in_the_value_and_logarithmic_in_the_evaluations():
    root, ns = curve_of([report.Panel("PSNR", {"a": [(4, 20.0), (1, 10.0), (16, 30.0)]}, {"degraded": 15.0})])
    places = [tuple(map(float, p.split(","))) for p in root.find(f"{ns}polyline").get("points").split()]
    (x1, y1), (x4, y4), (x16, y16) = places  # sorted by evaluations
    assert x4 - x1 == pytest.approx(x16 - x4, abs=0.2)
    assert x4 > x1
    assert y1 - y4 == pytest.approx(y4 - y16, abs=0.2)
    assert y4 < y1
    level = float(next(line for line in root.iter(f"{ns}line") if line.get("class") == "level").get("y1"))
    assert level == pytest.approx((y1 + y4) / 2, abs=0.2)


def test_curves_mark_every_point_and_name_every_series():
    root, ns = curve_of(
        [report.Panel("P", {"a": [(1, 0.5)], "b & c": [(1, 0.5), (8, 0.5)]}), report.Panel("Q", {})][:1]
    )
    assert len(list(root.iter(f"{ns}circle"))) == 3 + 2  # points and legend
    assert {"a", "b & c"} <= {text.text for text in root.iter(f"{ns}text")}
    with pytest.raises(ValueError, match="nothing to draw"):
        report.curves([report.Panel("P", {"a": []})])


def test_curves_on_paper_are_those_of_the_svg(tmp_path):
    panels = [report.Panel("P", {"a": [(1, 0.0), (10, 1.0)], "b": [(1, 1.0), (10, 0.2)]}, {"level": 0.5})]
    report.curves_png(tmp_path / "c.png", panels, scale=3)
    picture = Image.open(tmp_path / "c.png")
    root, ns = curve_of(panels)
    assert picture.size == tuple(3 * int(side) for side in root.get("viewBox").split()[2:])
    for dot in root.iter(f"{ns}circle"):
        place = tuple(round(3 * float(dot.get(axis))) for axis in ("cx", "cy"))
        assert "#{:02x}{:02x}{:02x}".format(*picture.getpixel(place)) == dot.get("fill")
    with pytest.raises(ValueError, match="nothing to draw"):
        report.curves_png(tmp_path / "d.png", [])


def test_a_gallery_shows_every_picture_by_its_name():
    root = ET.fromstring(report.gallery({"a <b>": images(1)[0], "c": images(1)[0]}))
    assert [image.get("alt") for image in root.iter("img")] == ["a <b>", "c"]
    assert [name.text for name in root.iter("b")] == ["a <b>", "c"]
