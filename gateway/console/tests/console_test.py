"""The console in a real browser, in front of a cluster of real processes: console_test.py BINARY."""

import hashlib
import json
import pathlib
import sys
import unittest

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Error, expect

from console_case import ConsoleCase, write_random

LARGE_BYTES = 200_000_000
CONSOLE_LIMIT_BYTES = 150_000
FIRST_VIEW_LIMIT_MS = 200


class ConsoleTest(ConsoleCase):
    # Slow enough that the repair of a large file is seen.
    FLAGS = ("--repair-bytes-per-second", "40MiB")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.files = {}
        for name, size in (("large.bin", LARGE_BYTES), ("small.bin", 70_001), ("empty.bin", 0)):
            cls.files[name] = write_random(cls.cluster.dir / name, size, len(name))

    def test_1_the_first_view_is_quick_and_small(self):
        times = []
        for _ in range(40):
            page = self.context.new_page()
            self.watch(page)
            page.goto(self.cluster.url)
            expect(page.locator(".empty")).to_contain_text("Nothing is stored yet")
            times.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
            size = page.evaluate("performance.getEntriesByType('resource').reduce((sum, entry) => sum + entry.decodedBodySize, 0)")
            page.close()
            if min(times) < FIRST_VIEW_LIMIT_MS:
                break
        print(f"first view after {min(times):.0f} ms (of {len(times)}), {size} bytes", flush=True)
        self.assertLess(min(times), FIRST_VIEW_LIMIT_MS)
        self.assertLess(size, CONSOLE_LIMIT_BYTES)

    def test_1_the_hash_of_pieces_is_that_of_the_whole(self):
        self.open("files")
        lengths = [0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 128, 100_001]
        found = self.page.evaluate("""async (lengths) => {
            const { Sha256 } = await import(new URL('sha256.js', document.querySelector('script[type=module]').src));
            return lengths.map((length) => {
                const bytes = Uint8Array.from({ length }, (_, at) => (at * 7) % 251);
                const digest = new Sha256();
                for (let at = 0, step = 1; at < length; at += step, step = (step * 3) % 101) digest.update(bytes.subarray(at, at + step));
                return digest.hex();
            });
        }""", lengths)
        expected = [hashlib.sha256(bytes(at * 7 % 251 for at in range(length))).hexdigest() for length in lengths]
        self.assertEqual(found, expected)

    def test_2_three_files_are_stored_at_once_and_the_bar_moves(self):
        self.open("files")
        # Noted by the page itself, since a fast machine outruns whoever asks now and then.
        self.page.evaluate("""() => {
            window.seen = [];
            new MutationObserver(() => {
                const row = [...document.querySelectorAll('.upload')].find((row) => row.textContent.includes('large.bin'));
                const bar = row?.querySelector('progress');
                if (bar && bar.value !== window.seen.at(-1)) window.seen.push(bar.value);
            }).observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });
        }""")
        self.page.set_input_files("#choose", [self.cluster.dir / name for name in self.files])
        self.assertEqual(self.page.locator(".upload").count(), 3)
        for name, digest in self.files.items():
            expect(self.row(name)).to_have_attribute("data-state", "stored")
            expect(self.row(name).locator(".hash")).to_have_text(digest)
        seen = self.page.evaluate("window.seen")
        print(f"the bar stood at {len(seen)} places", flush=True)
        self.assertGreater(len([value for value in seen if 0 < value < 1]), 3)
        self.assertEqual(seen, sorted(seen))
        expect(self.page.locator("#file-list tbody tr")).to_have_count(3)
        for name in self.files:
            expect(self.page.locator("#file-list")).to_contain_text(name)

    def test_3_what_the_store_has_is_not_sent_again(self):
        self.page.get_by_role("button", name="Clear the list").click()
        self.page.set_input_files("#choose", [self.cluster.dir / "small.bin"])
        expect(self.row("small.bin")).to_have_attribute("data-state", "known")
        expect(self.row("small.bin")).to_contain_text("Already in the store")

    def test_4_a_download_has_its_name_and_its_bytes(self):
        self.page.fill("#hash", self.files["small.bin"])
        with self.page.expect_download() as started:
            self.page.locator(".inline").get_by_role("button", name="Download").click()
        self.assertEqual(started.value.suggested_filename, "small.bin")
        path = pathlib.Path(started.value.path())
        self.assertEqual(hashlib.sha256(path.read_bytes()).hexdigest(), self.files["small.bin"])

    def test_5_a_deleted_file_is_gone_and_what_was_typed_wrong_is_explained(self):
        digest = self.files["small.bin"]
        self.page.locator("#file-list a", has_text="small.bin").click()
        expect(self.page.locator("h1")).to_have_text("small.bin")
        expect(self.page.locator(".badge.good")).to_have_count(3)
        self.page.get_by_role("button", name="Delete…").click()
        expect(self.page.locator("dialog")).to_contain_text("nothing brings it back")
        self.page.get_by_role("button", name="Delete it for good").click()
        expect(self.page.locator(".view.file [role=status]")).to_contain_text("Deleted: small.bin")
        self.open("files")
        expect(self.page.locator("#file-list tbody tr")).to_have_count(2)
        hint = self.page.locator("#hash-hint")
        for typed, words in ((digest, "404"), (digest[:60], "4 are missing"), (digest.upper(), "lower case"), ("x" * 64, "is none of")):
            self.page.fill("#hash", typed)
            self.page.locator(".inline").get_by_role("button", name="Download").click()
            expect(hint).to_contain_text(words)
        self.open(f"files/{digest}")
        expect(self.page.locator(".view.file [role=status]")).to_contain_text("404")

    def test_6_an_uploaded_page_never_runs(self):
        evil = self.cluster.dir / "evil.html"
        evil.write_text("<!doctype html><title>owned</title><script>document.title = 'owned'</script>")
        self.open("files")
        self.page.set_input_files("#choose", [evil])
        expect(self.row("evil.html")).to_have_attribute("data-state", "stored")
        digest = hashlib.sha256(evil.read_bytes()).hexdigest()
        for path in (f"/files/{digest}", f"/download?hash={digest}&name=evil.html"):
            page = self.context.new_page()
            with self.assertRaisesRegex(Error, "Download is starting|ERR_ABORTED"):
                page.goto(self.cluster.url + path)
            self.assertNotEqual(page.title(), "owned")
            page.close()
        # Nor as a script or a style of the console, to which it would belong as the same origin.
        loaded = self.page.evaluate("""(path) => new Promise((resolve) => {
            const script = document.createElement('script');
            script.src = path;
            script.onload = () => resolve('ran');
            script.onerror = () => resolve('refused');
            document.head.append(script);
        })""", f"/files/{digest}")
        self.assertEqual(loaded, "refused")
        # The browser says that it refused, which is what was wanted.
        self.forgive("MIME type", digest)

    def test_7_the_admin_view_shows_records_and_reasons(self):
        self.open("admin/files")
        expect(self.page.locator("#records tbody tr")).to_have_count(3)
        self.page.fill("#filter", self.files["large.bin"][:20])
        expect(self.page.locator("#records tbody tr")).to_have_count(1)
        self.page.get_by_role("link", name="nodes", exact=True).click()
        expect(self.page.locator("#records tbody tr")).to_have_count(4)
        with self.page.expect_download() as started:
            self.page.get_by_role("link", name="Download as NDJSON").click()
        lines = pathlib.Path(started.value.path()).read_text().splitlines()
        self.assertEqual({json.loads(line)["name"] for line in lines}, {f"datanode-{number}" for number in range(1, 5)})
        self.page.fill("#why-hash", self.files["large.bin"])
        self.page.get_by_role("button", name="Ask").click()
        expect(self.page.locator(".admin [role=status]").first).to_contain_text("datanode-")

    def test_8_every_view_is_accessible_in_light_and_dark(self):
        digest = self.files["large.bin"]
        views = ["files", f"files/{digest}", "cluster", "admin/files", "admin/meta", f"admin/why/{digest}"]
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            for width in (1280, 390):
                self.page.set_viewport_size({"width": width, "height": 900})
                for view in views:
                    self.open(view)
                    expect(self.page.locator("table, .facts").first).to_be_visible()
                    found = Axe().run(self.page).response["violations"]
                    serious = [(item["id"], item["nodes"][0]["target"]) for item in found if item["impact"] in ("serious", "critical")]
                    self.assertEqual(serious, [], f"{view}, {scheme}, {width}")
        self.page.set_viewport_size({"width": 1280, "height": 900})

    def test_9_a_death_a_repair_and_an_absent_namenode_are_seen_without_a_reload(self):
        status = json.loads(self.cluster.get(f"/files/{self.files['large.bin']}/status"))
        victim = status["replicas"][0]["name"]
        self.open("cluster")
        node = self.page.locator("#nodes tr", has_text=victim)
        expect(node.locator(".badge")).to_have_text("live")
        expect(self.page.locator(".repair")).to_have_attribute("data-state", "healthy")
        self.page.evaluate("""(victim) => {
            window.loads = 1;
            window.states = [];
            const note = (state) => window.states.includes(state) || window.states.push(state);
            new MutationObserver(() => {
                const row = [...document.querySelectorAll('#nodes tr')].find((row) => row.textContent.includes(victim));
                note(row?.querySelector('.badge')?.textContent ?? 'live');
                note(document.querySelector('.repair')?.dataset.state ?? 'healthy');
            }).observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
        }""", victim)
        self.cluster.kill(victim)
        for state in ("stale", "dead"):
            expect(node.locator(".badge")).to_have_text(state)
        expect(self.page.locator(".repair")).to_have_attribute("data-state", "repairing")
        expect(self.page.locator(".repair")).to_have_attribute("data-state", "healthy")
        events = self.page.locator(".events")
        for words in (f"{victim} is stale", f"{victim} is dead", "Repair started", "Repair finished"):
            expect(events).to_contain_text(words)
        states = [state for state in self.page.evaluate("window.states") if state != "healthy"]
        print(f"seen: {', '.join(states)}, healthy", flush=True)
        self.assertEqual(states, ["live", "stale", "dead", "repairing"])
        self.assertEqual(self.page.evaluate("window.loads"), 1)
        self.absent_namenode()

    def absent_namenode(self):
        address = self.cluster.namenode
        self.cluster.kill("namenode")
        away = self.page.locator("#away")
        expect(away).to_contain_text("namenode")
        self.open("files")
        self.page.reload()
        expect(away).to_contain_text("does not answer")
        expect(self.page.locator("#list-state")).to_contain_text("comes back with the namenode")
        self.cluster.start_namenode(address)
        expect(away).to_be_hidden()
        expect(self.page.locator("#file-list tbody tr")).to_have_count(3)
        # What was asked in the moment in which it went may have failed.
        self.forgive("503")


if __name__ == "__main__":
    ConsoleCase.BINARY = sys.argv.pop(1)
    unittest.main(verbosity=2, failfast=True)
