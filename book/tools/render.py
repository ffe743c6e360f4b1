"""Render the site from the committed notebooks; execute nothing.

Reads the whole tree. Writes `_build/html` and nothing else, except with
--repository: then it sets the addresses in `_config.yml`, CITATION.cff,
CONTRIBUTING.md and the pages on reading and on teaching.
With --serve it serves the site on this machine and renders again on change.
"""

from __future__ import annotations

import argparse
import functools
import re
import subprocess
import sys
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "_build" / "html"
ADDRESSED = (
    "_config.yml",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "book/how-to-read.md",
    "book/teaching.md",
)
WATCHED = ("book", "chapters", "rlbook_utils", "_config.yml", "_toc.yml")


def pages(root: Path) -> list[str]:
    """List every page of the table of contents."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    entries = [entry for part in toc["parts"] for entry in part["chapters"]]
    return [toc["root"], *(entry["file"] for entry in entries)]


def render() -> int:
    """Build the site with warnings as errors; return the exit code."""
    command = [
        str(Path(sys.executable).with_name("jupyter-book")),
        "build",
        str(ROOT),
        "-W",
        "--keep-going",
        "--quiet",
    ]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    missing = [page for page in pages(ROOT) if not (SITE / f"{page}.html").exists()]
    if done.returncode or missing:
        print(done.stdout[-6000:])
        for page in missing:
            print(f"error: the page {page} of _toc.yml was not built", file=sys.stderr)
        return 1
    index = SITE / "index.html"
    # It leads to the cover at once; without an icon a browser looks for one in vain.
    icon = '<link rel="icon" href="_static/favicon.svg"/>\n'
    text = index.read_text(encoding="utf-8")
    if icon not in text:
        index.write_text(icon + text, encoding="utf-8")
    print(f"the site is at {index.relative_to(ROOT)}")
    return 0


def set_addresses(repository: str, address: str) -> int:
    """Write the repository's and the site's address wherever they stand."""
    match = re.fullmatch(
        r"https://[\w.-]+/([\w.-]+)/([\w.-]+?)(?:\.git)?/?", repository
    )
    if not match:
        print(
            f"error: URL is {repository!r}: it looks like https://host/owner/name",
            file=sys.stderr,
        )
        return 1
    repository = repository.rstrip("/").removesuffix(".git")
    site = address or f"https://{match[1]}.github.io/{match[2]}/"
    site = f"{site.rstrip('/')}/"
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    for path in filter(Path.exists, map(ROOT.joinpath, ADDRESSED)):
        text = path.read_text(encoding="utf-8")
        text = text.replace(config["html"]["baseurl"], site)
        text = text.replace(config["repository"]["url"], repository)
        path.write_text(text, encoding="utf-8")
    return 0


def stamp() -> float:
    """Return when a watched file last changed."""
    paths = [ROOT / name for name in WATCHED]
    files = [
        p for path in paths for p in ([path] if path.is_file() else path.rglob("*"))
    ]
    return max(p.stat().st_mtime for p in files if p.is_file())


def serve(port: int) -> int:
    """Serve the site until interrupted; render it again when a file changes."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(SITE))
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(
        f"serving at http://127.0.0.1:{server.server_port}; Ctrl-C ends it", flush=True
    )
    last = stamp()
    try:
        while True:
            time.sleep(1)
            if stamp() > last:
                notebooks = Path(__file__).with_name("notebooks.py")
                subprocess.run([sys.executable, str(notebooks)], check=False)
                render()
                last = stamp()
    except KeyboardInterrupt:
        server.shutdown()
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--serve", action="store_true")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--repository")
    parser.add_argument("--address", default="")
    args = parser.parse_args(argv)
    if args.repository is not None:
        return set_addresses(args.repository, args.address)
    try:
        return serve(args.port) if args.serve else render()
    except KeyboardInterrupt:
        print("interrupted: run it again and it goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
