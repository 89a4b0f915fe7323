"""What the tests of the console share: a cluster of real processes, a browser in front of it, and what the browser complains of."""

import hashlib
import random
import re
import unittest

from playwright.sync_api import expect, sync_playwright

from cluster import Cluster

PATIENCE_MS = 90_000


def write_random(path, size, seed):
    numbers = random.Random(seed)
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        while size > 0:
            piece = numbers.randbytes(min(size, 4 << 20))
            digest.update(piece)
            file.write(piece)
            size -= len(piece)
    return digest.hexdigest()


class ConsoleCase(unittest.TestCase):
    """One cluster and one browser for a class; its tests run in the order of their names, each on what the one before left."""

    BINARY = None
    FLAGS = ()
    DATANODES = 4

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(ConsoleCase.BINARY, datanodes=cls.DATANODES, flags=cls.FLAGS).__enter__()
        cls.addClassCleanup(cls.cluster.__exit__)
        playwright = sync_playwright().start()
        cls.addClassCleanup(playwright.stop)
        # Inside of a container the sandbox of the browser has nothing to build on.
        cls.browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        cls.addClassCleanup(cls.browser.close)
        cls.context = cls.browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
        cls.context.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        cls.problems = []
        cls.page = cls.context.new_page()
        cls.watch(cls.page)

    @classmethod
    def watch(cls, page):
        """Notes whatever a user would find in the console of the browser."""
        page.on("console", lambda message: message.type in ("error", "warning") and cls.problems.append(message.text))
        page.on("pageerror", lambda error: cls.problems.append(str(error)))
        page.on("requestfailed", cls.note_failure)
        page.on("response", lambda response: response.status >= 400 and cls.problems.append(f"{response.status} {response.url}"))

    @classmethod
    def note_failure(cls, request):
        path = re.sub(r"^http://[^/]*", "", request.url)
        # What the browser itself gave up is no failure: a stream that the page closed, whatever was under way when the
        # page was left or loaded again, and a download, which is no page.
        if request.failure != "net::ERR_ABORTED":
            cls.problems.append(f"{request.failure} {path}")

    @classmethod
    def forgive(cls, *words):
        """Forgets complaints that a test has brought about on purpose."""
        cls.problems[:] = [problem for problem in cls.problems if not any(word in problem for word in words)]

    def tearDown(self):
        problems, self.problems[:] = list(self.problems), []
        self.assertEqual(problems, [])

    def open(self, address):
        self.page.goto(f"{self.cluster.url}/#/{address}")

    def row(self, name):
        return self.page.locator(".upload", has=self.page.locator(f".name:text-is('{name}')"))
