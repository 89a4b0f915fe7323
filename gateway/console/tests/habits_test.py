"""What people do with the console besides the straight way, in a real browser: habits_test.py BINARY."""

import concurrent.futures
import hashlib
import json
import pathlib
import random
import re
import subprocess
import sys
import time
import unittest

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from console_case import ConsoleCase, write_random

PAGE = 25
PATIENCE_SECONDS = 90
# So slow that there is time to cancel on any machine.
SLOW_BYTES_PER_SECOND = 4_000_000
# Everything that can be focused and is meant to be, in the order of the page.
FOCUSABLE = """() => [...document.querySelectorAll('a[href], button, input, [tabindex="0"]')]
    .filter((item) => !item.disabled && item.tabIndex >= 0 && item.checkVisibility({ visibilityProperty: true }))
    .map((item) => item.outerHTML)"""
FOCUSED = """() => {
    const item = document.activeElement;
    const shown = item.matches('.drop input') ? item.closest('.drop') : item;
    const style = getComputedStyle(shown);
    return { html: item.outerHTML, visible: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 };
}"""


class HabitsTest(ConsoleCase):
    DATANODES = 3

    def until(self, what, words):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not what():
            self.assertLess(time.monotonic(), deadline, words)
            time.sleep(0.1)

    def info(self):
        return json.loads(self.cluster.get("/info"))

    def test_1_a_cancelled_upload_leaves_nothing(self):
        path = self.cluster.dir / "cancelled.bin"
        write_random(path, 80_000_000, 1)
        self.open("files")
        network = self.context.new_cdp_session(self.page)
        speed = {"offline": False, "latency": 0, "downloadThroughput": -1}
        network.send("Network.emulateNetworkConditions", {**speed, "uploadThroughput": SLOW_BYTES_PER_SECOND})
        self.page.set_input_files("#choose", [path])
        self.until(lambda: self.info()["writes_in_flight"] > 0, "the upload never began")
        self.row("cancelled.bin").get_by_role("button", name="Cancel").click()
        expect(self.row("cancelled.bin")).to_have_attribute("data-state", "cancelled")
        expect(self.row("cancelled.bin")).to_contain_text("nothing was stored")
        network.send("Network.emulateNetworkConditions", {**speed, "uploadThroughput": -1})
        self.until(lambda: self.info()["writes_in_flight"] == 0, "the write is still open")
        self.until(lambda: not self.large_files(), "bytes are left on a datanode")
        self.assertEqual(self.info()["files"], 0)
        expect(self.page.locator(".empty")).to_contain_text("Nothing is stored yet")
        # Tried again, it is stored.
        self.row("cancelled.bin").get_by_role("button", name="Retry").click()
        expect(self.row("cancelled.bin")).to_have_attribute("data-state", "stored")
        self.assertEqual(self.info()["files"], 1)

    def large_files(self):
        large = []
        for path in self.cluster.dir.glob("datanode-*/**/*"):
            try:
                if path.is_file() and path.stat().st_size > 1_000_000 and path.suffix != ".log" and "index" not in path.parts:
                    large.append(path)
            except FileNotFoundError:
                # Removed meanwhile, which is what is waited for.
                pass
        return large

    def test_2_what_failed_can_be_tried_again(self):
        path = self.cluster.dir / "stubborn.txt"
        path.write_text("tried twice")
        address = self.cluster.namenode
        self.cluster.kill("namenode")
        self.page.set_input_files("#choose", [path])
        row = self.row("stubborn.txt")
        expect(row).to_have_attribute("data-state", "failed")
        expect(row.locator(".words")).to_contain_text("Failed: ")
        self.cluster.start_namenode(address)
        # What the page says of it may be of before.
        self.cluster.wait_until_running()
        row.get_by_role("button", name="Retry").click()
        expect(row).to_have_attribute("data-state", "stored")
        self.forgive("503")

    def test_3_folders_are_walked_to_the_bottom(self):
        folder = self.cluster.dir / "album"
        names = {}
        for name in ("one.txt", "two.txt", "summer/three.txt", "summer/late/four.txt"):
            names[name] = folder / name
            names[name].parent.mkdir(parents=True, exist_ok=True)
            names[name].write_text(f"chosen: {name}")
        self.page.get_by_role("button", name="Clear the list").click()
        self.page.set_input_files("#choose-folder", folder)
        for name in names:
            expect(self.row(f"album/{name}")).to_have_attribute("data-state", "stored")
        for name, path in names.items():
            path.write_text(f"dropped: {name}")
        self.page.get_by_role("button", name="Clear the list").click()
        box = self.page.locator(".drop").bounding_box()
        pointer = self.context.new_cdp_session(self.page)
        drag = {"x": box["x"] + 20, "y": box["y"] + 20, "data": {"items": [], "files": [str(folder)], "dragOperationsMask": 1}}
        for kind in ("dragEnter", "dragOver", "drop"):
            pointer.send("Input.dispatchDragEvent", {"type": kind, **drag})
        for name, path in names.items():
            row = self.row(f"album/{name}")
            expect(row).to_have_attribute("data-state", "stored")
            expect(row.locator(".hash")).to_have_text(hashlib.sha256(path.read_bytes()).hexdigest())

    def test_4_pages_and_beginnings_of_hashes(self):
        numbers = random.Random(4)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(self.cluster.put, [numbers.randbytes(100 + size) for size in range(60)]))
        lines = self.cluster.get("/admin/dump/files").decode().splitlines()
        hashes = sorted(json.loads(line)["hash"] for line in lines)
        self.page.get_by_role("button", name="Refresh").click()
        links = self.page.locator("#file-list a.stored")
        shown = lambda: [link.get_attribute("title") for link in links.all()]
        previous, following = (self.page.get_by_role("button", name=name) for name in ("Previous", "Next"))
        expect(self.page.locator("#list-state")).to_contain_text("1 to 25, and there are more")
        expect(previous).to_be_disabled()
        pages = -(-len(hashes) // PAGE)
        for number in range(pages):
            expect(links.first).to_have_attribute("title", hashes[number * PAGE])
            self.assertEqual(shown(), hashes[number * PAGE : (number + 1) * PAGE])
            if number + 1 < pages:
                following.click()
        expect(following).to_be_disabled()
        previous.click()
        expect(links.first).to_have_attribute("title", hashes[(pages - 2) * PAGE])
        prefix = hashes[40][:2]
        wanted = [digest for digest in hashes if digest.startswith(prefix)]
        self.page.fill("#prefix", prefix)
        expect(links.first).to_have_attribute("title", wanted[0])
        expect(links).to_have_count(len(wanted))
        expect(previous).to_be_disabled()
        self.page.fill("#prefix", "xyz")
        expect(self.page.locator("#list-state")).to_contain_text("is none of 0-9 and a-f")
        self.page.fill("#prefix", hashes[0][:20] + "0" * 44)
        expect(self.page.locator("#file-list")).to_contain_text("No hash begins with")
        self.page.fill("#prefix", "")
        expect(links).to_have_count(PAGE)

    def test_5_names_are_remembered_and_the_copied_command_works(self):
        path = self.cluster.dir / "it's mine.txt"
        path.write_text("named")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self.page.set_input_files("#choose", [path])
        expect(self.page.locator(f".upload:has-text(\"it's mine.txt\")")).to_have_attribute("data-state", "stored")
        self.page.reload()
        self.page.fill("#prefix", digest)
        with self.page.expect_download() as started:
            self.page.locator("#file-list").get_by_role("link", name="Download it's mine.txt").click()
        self.assertEqual(started.value.suggested_filename, "it's mine.txt")
        self.open(f"files/{digest}")
        self.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=self.cluster.url)
        for label, expected in (("Copy hash", digest), ("Copy as curl", None)):
            self.page.get_by_role("button", name=label).click()
            expect(self.page.get_by_role("button", name="Copied")).to_be_visible()
            copied = self.page.evaluate("navigator.clipboard.readText()")
            if expected:
                self.assertEqual(copied, expected)
            expect(self.page.get_by_role("button", name=label)).to_be_visible()
        folder = self.cluster.dir / "downloads"
        folder.mkdir()
        subprocess.run(["bash", "-c", copied], cwd=folder, check=True, timeout=60, capture_output=True)
        self.assertEqual((folder / path.name).read_text(), "named")

    def tab_through(self):
        """Where Tab leads, from the top of the page until it leaves the page."""
        self.page.evaluate("document.activeElement?.blur()")
        met = []
        for _ in range(400):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("document.activeElement === document.body"):
                break
            met.append(self.page.evaluate(FOCUSED))
        return met

    def test_6_everything_is_reached_with_the_keyboard(self):
        digest = json.loads(self.cluster.get("/files?limit=1"))["files"][0]["hash"]
        for view, ready in (("files", "#file-list a"), (f"files/{digest}", "button.danger"), ("cluster", "#nodes tbody tr"), ("admin/nodes", "#records tbody tr")):
            self.page.goto("about:blank")
            self.open(view)
            expect(self.page.locator(ready).first).to_be_visible()
            expect(self.page.locator("#status-word")).to_have_text("running")
            wanted = self.page.evaluate(FOCUSABLE)
            met = self.tab_through()
            # What it is and where it leads: ages and the like change between the two looks.
            strip = lambda html: re.sub(r' (title|class|style|aria-label)="[^"]*"', "", html.split(">", 1)[0])
            self.assertEqual([strip(stop["html"]) for stop in met], [strip(html) for html in wanted], view)
            self.assertEqual([stop["html"] for stop in met if not stop["visible"]], [], f"{view}: focus that is not seen")

    def test_7_the_question_before_a_delete_holds_the_keyboard_until_escape(self):
        digest = json.loads(self.cluster.get("/files?limit=1"))["files"][0]["hash"]
        self.open(f"files/{digest}")
        self.page.get_by_role("button", name="Delete…").focus()
        self.page.keyboard.press("Enter")
        dialog = self.page.locator("dialog")
        expect(dialog.get_by_role("button", name="Keep it")).to_be_focused()
        found = Axe().run(self.page).response["violations"]
        self.assertEqual([item["id"] for item in found if item["impact"] in ("serious", "critical")], [])
        for _ in range(6):
            self.page.keyboard.press("Tab")
            self.assertTrue(self.page.evaluate("document.activeElement === document.body || document.activeElement.closest('dialog') !== null"))
        self.page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
        expect(self.page.get_by_role("button", name="Delete…")).to_be_focused()
        self.assertEqual(json.loads(self.cluster.get(f"/files/{digest}/status"))["hash"], digest)
        # And the skip link leads past the header.
        self.page.reload()
        self.page.keyboard.press("Tab")
        expect(self.page.locator(".skip")).to_be_focused()
        self.page.keyboard.press("Enter")
        expect(self.page.locator("main")).to_be_focused()

    def test_8_events_go_on_after_a_restart_of_the_gateway(self):
        self.open("cluster")
        expect(self.page.locator(".events")).to_contain_text("datanode-3 joined")
        address = self.cluster.gateway
        self.cluster.kill("gateway")
        expect(self.page.locator("#status-word")).to_have_text("gateway away")
        expect(self.page.locator("#away")).to_contain_text("does not answer")
        self.cluster.start_gateway(address)
        expect(self.page.locator("#status-word")).to_have_text("running")
        digest = json.loads(self.cluster.get("/files?limit=1"))["files"][0]["hash"]
        self.cluster.delete(digest)
        # Told once, and what was there before is not told again. Others, of a node that is late, may come at any time.
        for words in (f"Deleted {digest[:12]}", "datanode-3 joined"):
            expect(self.page.locator(".events li", has_text=words)).to_have_count(1)
        self.forgive("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "ERR_SOCKET_NOT_CONNECTED")

    def test_9_a_deleted_file_says_so_and_why(self):
        path = self.cluster.dir / "gone.txt"
        path.write_text("gone soon")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self.open("files")
        self.page.set_input_files("#choose", [path])
        expect(self.row("gone.txt")).to_have_attribute("data-state", "stored")
        self.cluster.kill("datanode-3")
        self.cluster.delete(digest)
        self.open(f"admin/why/{digest}")
        answer = self.page.locator(".admin [role=status]").first
        expect(answer.locator(".badge")).to_have_text("deleted")
        expect(answer).to_contain_text("datanode-3 has not confirmed")
        expect(answer).to_contain_text("it was deleted")
        found = Axe().run(self.page).response["violations"]
        self.assertEqual([item["id"] for item in found if item["impact"] in ("serious", "critical")], [])
        # Stored again, it has a life before this one.
        self.cluster.put(path.read_bytes())
        # The answer is of the moment at which it was asked for, and the others may still have to confirm.
        holders = lambda: [json.loads(line)["holders"] for line in self.cluster.get("/admin/dump/tombstones").splitlines() if digest.encode() in line]
        self.until(lambda: [len(nodes) for nodes in holders()] == [1], "the others never confirmed")
        self.page.get_by_role("button", name="Ask").click()
        expect(answer).to_contain_text("Deleted before")
        expect(answer).to_contain_text("and stored again since; 1 datanode has to confirm")
        expect(answer).to_contain_text("made the file")


if __name__ == "__main__":
    ConsoleCase.BINARY = sys.argv.pop(1)
    unittest.main(verbosity=2, failfast=True)
