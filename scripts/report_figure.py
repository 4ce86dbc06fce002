#!/usr/bin/env python3
"""Takes a figure out of a study's report: the SVG that the page offers for download.

    scripts/report_figure.py runs/study/report.html            # names of the figures
    scripts/report_figure.py runs/study/report.html NAME.svg docs/study.svg
"""

import html
import re
import sys
import urllib.parse
from pathlib import Path


def figures(page: str) -> dict[str, str]:
    """Every figure of a page by the name of its file."""
    links = re.findall(r'<a\b[^>]*\bdownload="([^"]+\.svg)"[^>]*>', page)
    hrefs = [re.search(r'href="([^"]+)"', tag) for tag in re.findall(r'<a\b[^>]*\bdownload="[^"]+\.svg"[^>]*>', page)]
    texts = [urllib.parse.unquote(html.unescape(href[1]).split(",", 1)[1]) for href in hrefs if href]
    return dict(zip(links, texts))


def main() -> None:
    found = figures(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if len(sys.argv) == 2:
        print("\n".join(f"{name}  {len(text)} bytes" for name, text in found.items()))
        return
    name, output = sys.argv[2:]
    if name not in found:
        sys.exit(f"{name} is not among {', '.join(found)}")
    Path(output).write_text(found[name], encoding="utf-8")


if __name__ == "__main__":
    main()
