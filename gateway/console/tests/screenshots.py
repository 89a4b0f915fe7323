"""Screenshots of every view, light and dark, desktop and phone: screenshots.py BINARY FOLDER."""

import pathlib
import random
import sys

from playwright.sync_api import expect, sync_playwright

from cluster import Cluster

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


def fill(cluster, page):
    """Some files with names, by the page, and some without."""
    page.goto(cluster.url)
    numbers = random.Random(1)
    files = [
        ("holiday.jpg", 2_400_000), ("thesis.pdf", 900_000), ("model-7b.safetensors", 9_000_000),
        ("notes.txt", 4_200), ("build-cache.tar.zst", 12_000_000), ("survey.csv", 150_000),
    ]
    paths = [cluster.dir / name for name, _ in files]
    for path, (_, size) in zip(paths, files):
        path.write_bytes(numbers.randbytes(size))
    page.set_input_files("#choose", paths)
    expect(page.locator(".upload[data-state=stored]")).to_have_count(len(files), timeout=120_000)
    for size in range(40):
        cluster.put(numbers.randbytes(20_000 + size))


def main(binary, folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with Cluster(binary) as cluster, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        page.set_default_timeout(120_000)
        fill(cluster, page)
        first = page.locator("#file-list a.stored:has(.name)").first.get_attribute("href")
        views = {"files": "#/files", "file": first, "cluster": "#/cluster", "admin": "#/admin/files"}
        cluster.kill("datanode-2")

        def shoot(page, name):
            page.wait_for_timeout(700)
            page.screenshot(path=folder / f"{name}.png", full_page=True)

        page.goto(f"{cluster.url}/#/cluster")
        page.wait_for_selector(".badge:text('dead')")
        page.wait_for_timeout(8000)
        for size, (width, height) in SIZES.items():
            page.set_viewport_size({"width": width, "height": height})
            for theme in ("light", "dark"):
                page.emulate_media(color_scheme=theme)
                for view, address in views.items():
                    page.goto(f"{cluster.url}/{address}")
                    shoot(page, f"{view}-{theme}-{size}")
        # The two of the README: what fits on a screen, small enough to be looked at over a slow line.
        page.set_viewport_size({"width": 1180, "height": 940})
        page.reload()
        page.goto(f"{cluster.url}/#/files")
        (cluster.dir / "slides.key").write_bytes(random.Random(2).randbytes(700_000))
        page.set_input_files("#choose", [cluster.dir / "thesis.pdf", cluster.dir / "slides.key"])
        expect(page.locator(".upload[data-state=stored], .upload[data-state=known]")).to_have_count(2, timeout=120_000)
        for view, theme in (("files", "light"), ("cluster", "dark")):
            page.emulate_media(color_scheme=theme)
            page.goto(f"{cluster.url}/{views[view]}")
            page.wait_for_timeout(700)
            page.screenshot(path=folder / f"console-{view}.png")
        cluster.kill("namenode")
        page.set_viewport_size({"width": 1280, "height": 900})
        page.emulate_media(color_scheme="light")
        page.goto(f"{cluster.url}/#/files")
        page.reload()
        page.wait_for_selector("#away:not([hidden])")
        shoot(page, "away-light-desktop")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
