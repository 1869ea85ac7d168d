"""Pages in a real browser: Debian's chromium without a window, light or dark, on screen or printed."""

import base64
import contextlib
import os
import pathlib
import shutil
import socket

CHECKS = pathlib.Path(__file__).with_suffix(".js").read_text()
SECONDS = 180
"""What any single request to the browser may take, its start included."""
HEIGHTS = {1280: 800, 390: 844}


def missing() -> str:
    """Why no browser can be started here; "" where one can."""
    programs = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if programs:
        return f"NO {', '.join(programs)} (chromium, chromium-driver): NO PAGE IS OPENED IN A BROWSER"
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "NO selenium (requirements-dev.txt): NO PAGE IS OPENED IN A BROWSER"
    return ""


class Browser:
    """A browser that shows one page after the other."""

    def __init__(self, driver):
        self.driver = driver
        self.width = 0

    def open(self, path, width, *, dark=False, printed=False):
        """Shows a file in a window that is `width` CSS pixels wide."""
        command, self.width = self.driver.execute_cdp_cmd, width
        size = {"width": width, "height": HEIGHTS.get(width, 1000)}
        command("Emulation.setDeviceMetricsOverride", size | {"deviceScaleFactor": 1, "mobile": False})
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        command("Emulation.setEmulatedMedia", {"media": "print" if printed else "", "features": [scheme]})
        self.driver.get(pathlib.Path(path).absolute().as_uri())

    def ask(self, script, *arguments):
        """What JavaScript returns."""
        return self.driver.execute_script(script, *arguments)

    def problems(self, *, figures=True) -> list[str]:
        """What sticks out of the page, and texts below the least contrast; collapsed parts are opened first.

        Figures, whose contrast is the same at every width, may be left out of the contrast.
        """
        return self.ask(f"{CHECKS}\nreturn problems(arguments[0], arguments[1]);", self.width, figures)

    def screenshot(self) -> bytes:
        """The whole page as a PNG."""
        options = {"format": "png", "captureBeyondViewport": True}
        return base64.b64decode(self.driver.execute_cdp_cmd("Page.captureScreenshot", options)["data"])

    def pdf(self) -> bytes:
        """The page as it is printed on A4, as a PDF; backgrounds only where the page insists on them."""
        options = {"paperWidth": 8.27, "paperHeight": 11.69}
        return base64.b64decode(self.driver.execute_cdp_cmd("Page.printToPDF", options)["data"])


@contextlib.contextmanager
def started():
    """A browser, which ends with the block."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    # Without a window, and without what needs a graphics card, a large /dev/shm or another host.
    for flag in (
        "headless",
        "disable-gpu",
        "disable-dev-shm-usage",
        "disable-background-networking",
        "hide-scrollbars",
    ):
        options.add_argument(f"--{flag}")
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # root has none
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS)  # Selenium's connection takes it over
    try:
        service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
        driver = webdriver.Chrome(options=options, service=service)
    finally:
        socket.setdefaulttimeout(before)
    try:
        driver.set_page_load_timeout(SECONDS)
        driver.set_script_timeout(SECONDS)
        yield Browser(driver)
    finally:
        driver.quit()
