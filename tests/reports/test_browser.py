"""Pages in a real headless Chromium: they load alone, are seen whole, and read well everywhere.

Screenshots are kept under ``results/screenshots``.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import bnnsample as bnn
from tests.conftest import X64

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH"),
    pytest.mark.skipif(not X64, reason="pages are the same in both precisions"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]
SCREENSHOTS = Path(__file__).parents[2] / "results" / "screenshots"
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE, DESK = (360, 740), (1000, 800)


class Seen(NamedTuple):
    """A page that was opened: what it asked for, what its console said, and the page."""

    requests: list[str]
    errors: list[str]
    page: Any


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    rng = np.random.default_rng(3)
    x, x_test = rng.standard_normal((20, 3)), rng.standard_normal((12, 3))
    y, y_test = np.sin(x[:, 0]), np.sin(x_test[:, 0])
    runs = {}
    for width in (5, 9):
        posterior = bnn.Posterior(bnn.fcn(1, width, 1), x, y, bnn.Gaussian(0.3))
        runs[f"width {width}"] = bnn.sample(
            posterior, bnn.HMC(3), chains=2, warmup=20, draws=40, x_test=x_test
        )
    classes = bnn.Posterior(bnn.fcn(1, 5, 3), x, rng.integers(0, 3, 20), bnn.Categorical())
    labelled = bnn.sample(classes, chains=2, warmup=20, draws=30, x_test=x_test)
    return {
        "numbers": bnn.report(runs["width 5"], folder / "numbers.html", y_test=y_test),
        "classes": bnn.report(
            labelled, folder / "classes.html", y_test=rng.integers(0, 3, 12)
        ),
        "comparison": bnn.compare(runs, folder / "comparison.html"),
    }  # fmt: skip


def opened(browser: Any, path: Path, size: tuple[int, int] = DESK, **settings: str) -> Seen:
    view = {"width": size[0], "height": size[1]}
    page = browser.new_page(viewport=view, **settings)
    seen = Seen([], [], page)
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("console", lambda line: seen.errors.append(line.text) if line.type != "log" else None)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.goto(path.as_uri())
    page.wait_for_load_state("load")
    return seen


def foreign(seen: Seen, path: Path) -> list[str]:
    """Requests for anything but the page and what is in it."""
    return [url for url in seen.requests if url != path.as_uri() and not url.startswith("data:")]


def brightness(page: Any, what: str) -> float:
    """Relative luminance (WCAG 2) of a computed colour of the body."""
    text = page.evaluate(f"getComputedStyle(document.body).{what}")
    channels = np.array([float(part) for part in text.strip("rgb()").split(",")[:3]]) / 255
    linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(page: Any) -> float:
    low, high = sorted(brightness(page, what) for what in ("color", "backgroundColor"))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", ["numbers", "classes", "comparison"])
def test_a_page_loads_alone_and_shows_its_verdict_and_every_figure(browser, pages, name) -> None:
    seen = opened(browser, pages[name])
    assert seen.errors == []
    assert foreign(seen, pages[name]) == []
    text = seen.page.inner_text("body")
    assert "elieve this run" in text
    assert text.index("elieve this run") < 300  # first of all
    images = seen.page.query_selector_all("img")
    assert len(images) >= (1 if name == "comparison" else 3)
    for image in images:
        assert image.get_attribute("alt")
        assert image.is_visible()
        assert image.evaluate("image => image.complete && image.naturalWidth > 100")
        assert image.bounding_box()["width"] > 300
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    seen.page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
    seen.page.close()


IS_WHOLE = "table => table.scrollWidth <= table.clientWidth"
"""Nothing of what a table says is beside the screen."""


@pytest.mark.parametrize("name", ["numbers", "comparison"])
def test_a_page_fits_a_phone(browser, pages, name) -> None:
    seen = opened(browser, pages[name], PHONE)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    words = seen.page.query_selector_all(".words")
    assert words
    assert all(table.evaluate(IS_WHOLE) for table in words)
    seen.page.screenshot(path=SCREENSHOTS / f"{name}-phone.png", full_page=True)
    seen.page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(browser, pages, scheme) -> None:
    seen = opened(browser, pages["numbers"], color_scheme=scheme)
    assert (brightness(seen.page, "backgroundColor") > 0.5) is (scheme == "light")
    assert contrast(seen.page) > 7
    seen.page.screenshot(path=SCREENSHOTS / f"numbers-{scheme}.png", full_page=True)
    seen.page.close()


def test_a_page_prints_on_white_even_where_the_screen_is_dark(browser, pages, tmp_path) -> None:
    seen = opened(browser, pages["numbers"], color_scheme="dark")
    seen.page.emulate_media(media="print", color_scheme="dark")
    assert brightness(seen.page, "backgroundColor") == 1
    assert contrast(seen.page) > 15
    seen.page.pdf(path=SCREENSHOTS / "numbers.pdf", format="A4")
    assert (SCREENSHOTS / "numbers.pdf").read_bytes().startswith(b"%PDF")
    seen.page.close()


@pytest.mark.parametrize(
    ("broken", "caught"),
    [
        ("<script>nothing.here</script>", lambda seen, path: seen.errors),
        ("<img src='https://example.invalid/a.svg' alt=''>", foreign),
        ("<img src='beside.svg' alt=''>", foreign),
        ("<div style='width: 2000px'>wide</div>", lambda seen, path: seen.page.evaluate(
            "document.documentElement.scrollWidth") > PHONE[0]),
    ],
    ids=["script", "network", "file", "width"],
)  # fmt: skip
def test_the_checks_catch_a_broken_page(browser, pages, tmp_path, broken, caught) -> None:
    path = tmp_path / "broken.html"
    path.write_text(pages["numbers"].read_text().replace("</body>", f"{broken}</body>"))
    seen = opened(browser, path, PHONE)
    assert caught(seen, path)
    seen.page.close()
